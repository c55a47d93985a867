"""Intervals, p values and verdicts of what was measured: no other part of the core has a threshold."""
