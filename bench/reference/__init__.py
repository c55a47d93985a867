"""Comparison with reference implementations of training."""
