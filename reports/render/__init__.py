"""Rendering: templates, tables, charts and number formats."""
