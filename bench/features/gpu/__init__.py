"""The first hour on a GPU: the verb `gpu`, a list of command lines."""
