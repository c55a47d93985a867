"""Tables of figures, and how figures are written."""
