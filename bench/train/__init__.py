"""A pre-training run that can be stopped, taken up and watched."""
