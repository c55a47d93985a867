"""Protocols for images of one class. No torch here."""

from bench.interfaces.catalog import GALLERY, SINGLE_LABEL, LazyFunction, Protocol

PROBE = "bench.transfer.classification.probe"
FINE_TUNE = "bench.transfer.classification.fine_tune"
INIT = "bench.transfer.classification.transfer_init"
PROTOCOLS = (
    Protocol(
        "linear-probe", SINGLE_LABEL, LazyFunction(f"{PROBE}:score_linear_probe"), is_default=True
    ),
    Protocol("k-nn", SINGLE_LABEL, LazyFunction(f"{PROBE}:score_k_nn"), is_default=True),
    Protocol("retrieval", GALLERY, LazyFunction(f"{PROBE}:score_retrieval"), is_default=True),
    Protocol("few-shot", SINGLE_LABEL, LazyFunction(f"{PROBE}:score_few_shot")),
    Protocol("label-fractions", SINGLE_LABEL, LazyFunction(f"{PROBE}:score_label_fractions")),
    Protocol(
        "linear-probe-catlip",
        SINGLE_LABEL,
        LazyFunction(f"{FINE_TUNE}:score_linear_probe_catlip"),
        needs_tower=True,
    ),
    Protocol(
        "fine-tune", SINGLE_LABEL, LazyFunction(f"{FINE_TUNE}:score_fine_tuning"), needs_tower=True
    ),
    Protocol(
        "fine-tune-paper",
        SINGLE_LABEL,
        LazyFunction(f"{FINE_TUNE}:score_as_in_paper"),
        needs_tower=True,
    ),
    Protocol(
        "fine-tune-512px",
        SINGLE_LABEL,
        LazyFunction(f"{FINE_TUNE}:score_at_512_px"),
        needs_tower=True,
    ),
    Protocol(
        "transfer-init", SINGLE_LABEL, LazyFunction(f"{INIT}:score_initial_heads"), needs_tower=True
    ),
)
