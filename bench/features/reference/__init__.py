"""Comparison with reference implementations of training, and the names of its sides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ReferenceName = Literal["open-clip", "dense-bce", "corenet", "superclass"]
OPEN_CLIP, OPEN_CLIP_FUSED = "open_clip_train", "open_clip_train, fused AdamW"
OPEN_CLIP_PADDED, OPEN_CLIP_BUCKETED = "open_clip checkout, padded", "open_clip checkout, length-bucketed"
CORENET, SUPERCLASS = "apple/corenet", "x-cls/superclass"
DENSE, OURS = "dense int64", "catlip-bench"
SIDES: dict[ReferenceName, tuple[str, ...]] = {
    "open-clip": (OPEN_CLIP, OPEN_CLIP_FUSED, OURS),
    "dense-bce": (DENSE, OURS),
    "corenet": (CORENET, OURS),
    "superclass": (SUPERCLASS, OURS),
}
OPEN_CLIP_CHECKOUT_SIDES = (OPEN_CLIP, OPEN_CLIP_FUSED, OPEN_CLIP_PADDED, OPEN_CLIP_BUCKETED, OURS)
WARMUP_STEPS = 2
EQUAL_STEPS = {OPEN_CLIP_BUCKETED: WARMUP_STEPS}  # first steps whose batches are ours, on sides that make other batches
# CoreNet's files of CLIP and CatLIP by scale, within a checkout; the baseline comes first.
RELEASED_FILES = {
    "vit-b16": {"clip": "projects/clip/clip_vit_base.yaml", "catlip": "projects/catlip/pretraining/vit_base.yaml"},
    "vit-h16": {
        "clip": "projects/range_augment/clip/clip_vit_huge.yaml",
        "catlip": "projects/catlip/pretraining/vit_huge.yaml",
    },
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """A repository whose code is compared with, from a checkout of the user."""

    url: str
    file: str  # that identifies a checkout
    methods: tuple[str, ...]  # that are compared
    unused: tuple[str, ...]  # packages that its modules import and no step of a training on images uses

    def matches_folder(self, folder: Path) -> bool:
        """Return whether a folder is such a checkout."""
        return (folder / self.file).is_file()


CHECKOUTS: dict[str, Checkout] = {
    "corenet": Checkout(
        "https://github.com/apple/corenet",
        "corenet/modeling/models/multi_modal_img_text/clip.py",
        ("clip", "catlip"),
        ("torchtext", "torchaudio", "pytorchvideo", "av", "coremltools", "boto3", "requests", "pybase64", "ujson"),
    ),
    "superclass": Checkout(
        "https://github.com/x-cls/superclass", "opencls/open_clip/cls_model.py", ("superclass",), ()
    ),
}
# Of its main branch, from the commit on that buckets captions by length; without it the release alone is compared.
OPEN_CLIP_CHECKOUT = Checkout(
    "https://github.com/mlfoundations/open_clip", "src/open_clip_train/naflex_data.py", ("clip",), ()
)
