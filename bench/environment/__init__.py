"""The machine, GPU specifications, the commit, files and seeds."""
