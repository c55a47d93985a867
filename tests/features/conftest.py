"""A test of one feature with another, `FEATURE/test_OTHER.py`, is left out where the other one is not here."""

from bench.extensions import FEATURES

OTHERS = ("claims",)
collect_ignore_glob = [f"*/test_{name}.py" for name in OTHERS if not (FEATURES / name).is_dir()]
