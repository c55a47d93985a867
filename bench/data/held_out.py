"""The pairs of the shipped pack that show or name a held-out concept, or look like one. No torch here.

`tests.pack.held_out_concepts` has the rule, and writes the file.
"""

import csv
from functools import cache
from pathlib import Path
from typing import Literal

HELD_OUT_FILE = Path(__file__).with_name("held_out_concepts.csv")
Reason = Literal["shown", "named", "alike"]
SHOWN: Reason = "shown"  # the image is an emoji of a held-out concept
NAMED: Reason = "named"  # the caption names one
ALIKE: Reason = "alike"  # the image is a near duplicate of such an emoji


@cache
def exclusion_reason_by_key() -> dict[str, str]:
    """Return the keys of the pairs that `subset=without-held-out-concepts` leaves out, with the reason."""
    with HELD_OUT_FILE.open(newline="", encoding="utf-8") as file:
        return {row["key"]: row["reason"] for row in csv.DictReader(file)}
