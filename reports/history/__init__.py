"""Metrics over commits: series, detected changes, and their page."""
