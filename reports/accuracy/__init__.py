"""Scores of transfer as tables, curves and rankings."""
