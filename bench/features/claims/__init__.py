"""Claims of papers, one file each, what is predicted for each, and their verdicts from records."""
