"""What a run leaves: records, and their kinds."""
