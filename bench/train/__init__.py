"""A pre-training run that can be stopped, resumed and watched."""
