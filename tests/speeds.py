"""A timed run as its record holds it."""

from typing import Any

from bench.records.record import Speed, StepFlops

PLAIN: dict[str, Any] = {
    "round": 0,
    "warmup_seconds": 1.0,
    "window_seconds": (2.0, 2.0),
    "phase_seconds": {},
    "flops": StepFlops(image_forward=1, text_forward=0, forward=1, step=3),
    "tokens_per_caption": None,
    "trained_parameters": 1,
    "tower_parameters": 1,
    "peak_flops_per_second": None,
    "peak_source": "",
    "target_building_seconds": 1.0,
    "num_captions": 1,
    "utilisation": {},
}


def speed(**figures: Any) -> Speed:
    """A run that has these figures."""
    return Speed(**PLAIN | figures)
