"""The protocol for boxes and masks of objects. No torch here."""

from bench.catalog import OBJECTS, Imported, Protocol

SCORE = Imported("bench.transfer.detection:score_detection")
PROTOCOLS = (Protocol("detection", OBJECTS, SCORE, needs_tower=True, is_default=True),)
