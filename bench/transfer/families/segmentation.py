"""The protocol for a class of every pixel. No torch here."""

from bench.catalog import MASKS, Imported, Protocol

SCORE = Imported("bench.transfer.segmentation:score_segmentation")
PROTOCOLS = (Protocol("segmentation", MASKS, SCORE, needs_tower=True, is_default=True),)
