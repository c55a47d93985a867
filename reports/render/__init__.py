"""How a page is made: templates, tables, charts and formats."""
