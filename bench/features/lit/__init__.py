"""The verb `lit`: zero-shot scores of towers with their cost, after a second phase that learns a text tower (LiT)."""
