"""A comparison as rounds of processes."""
