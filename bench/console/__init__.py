"""Terminal output, progress and signals."""
