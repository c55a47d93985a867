"""Decomposition of the throughput ratio of two experiments into factors."""
