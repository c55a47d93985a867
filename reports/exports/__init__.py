"""Records as other programs read them."""
