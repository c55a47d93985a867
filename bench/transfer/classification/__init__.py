"""Protocols of tasks with one class per image."""
