"""Comparison with reference implementations of training, and the names of its sides."""

from typing import Literal

ReferenceName = Literal["open-clip", "dense-bce"]
OPEN_CLIP, OPEN_CLIP_FUSED = "open_clip_train", "open_clip_train, fused AdamW"
DENSE, OURS = "dense int64", "catlip-bench"
SIDES: dict[ReferenceName, tuple[str, ...]] = {
    "open-clip": (OPEN_CLIP, OPEN_CLIP_FUSED, OURS),
    "dense-bce": (DENSE, OURS),
}
WARMUP_STEPS = 2
