"""Towers from files and names, and what is made of them."""
