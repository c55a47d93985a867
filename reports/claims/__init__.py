"""Claims of papers with their verdicts from records: evidence, card, page."""
