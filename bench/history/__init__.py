"""Figures of several commits, compared."""
