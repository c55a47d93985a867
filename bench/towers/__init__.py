"""Towers from files and names, and towers exported to other layouts."""
