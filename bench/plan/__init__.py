"""What a training would take on many GPUs."""
