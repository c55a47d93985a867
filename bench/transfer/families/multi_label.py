"""Protocols for images of several classes. No torch here."""

from bench.catalog import MULTI_LABEL, Imported, Protocol

MODULE = "bench.transfer.multi_label"
PROTOCOLS = (
    Protocol("multi-label", MULTI_LABEL, Imported(f"{MODULE}:score_linear"), is_default=True),
    Protocol("multi-label-fine-tune", MULTI_LABEL, Imported(f"{MODULE}:score_fine_tuned"), needs_tower=True),
    Protocol("multi-label-fine-tune-paper", MULTI_LABEL, Imported(f"{MODULE}:score_as_in_paper"), needs_tower=True),
)
