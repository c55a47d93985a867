"""Prediction of step time and cost of a training on many GPUs."""
