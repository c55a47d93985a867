"""Factories of models and of targets, from which the methods are made."""
