"""The first hour on a GPU: the verb `gpu`, its steps, and one file with their results to carry away."""
