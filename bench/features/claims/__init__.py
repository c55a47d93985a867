"""Claims of papers: what was published and counted, the conditions of evidence, and verdicts from records."""
