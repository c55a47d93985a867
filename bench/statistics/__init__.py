"""Intervals, p values and verdicts of what was measured."""
