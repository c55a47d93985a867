"""Speeds over commits: series, changes and their page."""
