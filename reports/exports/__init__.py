"""Exports of records and figures to the formats of other programs."""
