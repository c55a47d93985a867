"""Object detection and its average precision."""
