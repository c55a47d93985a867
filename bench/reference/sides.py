"""The sides of a comparison with other people's code, by name."""

from typing import Literal

Against = Literal["open-clip", "dense-bce"]
OPEN_CLIP, OPEN_CLIP_FUSED, DENSE, OURS = (
    "open_clip_train",
    "open_clip_train, fused AdamW",
    "dense int64",
    "catlip-bench",
)
SIDES: dict[Against, tuple[str, ...]] = {"open-clip": (OPEN_CLIP, OPEN_CLIP_FUSED, OURS), "dense-bce": (DENSE, OURS)}
WARMUP_STEPS = 2
