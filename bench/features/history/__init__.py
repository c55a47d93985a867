"""Comparison of measurements over commits."""
