"""The self-test: which slowdowns comparisons detect on this machine."""
