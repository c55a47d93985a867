"""Protocols of tasks with several labels per image."""
