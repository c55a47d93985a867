"""Transfer tasks: from the pack, from folders and from data sets."""
