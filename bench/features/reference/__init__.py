"""Comparison with reference implementations of training, and the names of its sides."""

from typing import Literal, NamedTuple

ReferenceName = Literal["open-clip", "corenet", "superclass"]
OURS = "catlip-bench"
OPEN_CLIP = "open_clip_train"
OPEN_CLIP_FUSED = "open_clip_train, fused AdamW"
OPEN_CLIP_BUCKETED = "open_clip checkout, length-bucketed"
CORENET = "apple/corenet"
SUPERCLASS = "x-cls/superclass"
OPEN_CLIP_SIDES = (OPEN_CLIP, OPEN_CLIP_FUSED, OURS)
OPEN_CLIP_CHECKOUT_SIDES = (OPEN_CLIP, OPEN_CLIP_FUSED, OPEN_CLIP_BUCKETED, OURS)
SUPERCLASS_SIDES = (SUPERCLASS, OURS)
WARMUP_STEPS = 2
# CoreNet's files of CLIP and CatLIP by scale, within a checkout; the baseline comes first.
RELEASED_FILES = {
    "vit-b16": {
        "clip": "projects/clip/clip_vit_base.yaml",
        "catlip": "projects/catlip/pretraining/vit_base.yaml",
    },
    "vit-h16": {
        "clip": "projects/range_augment/clip/clip_vit_huge.yaml",
        "catlip": "projects/catlip/pretraining/vit_huge.yaml",
    },
}


class ReferenceRepository(NamedTuple):
    """A repository whose code is compared with ours, in a checkout that the user has."""

    url: str
    identifying_file: str  # path within a checkout of a file that only this repository has


REFERENCE_REPOSITORIES: dict[ReferenceName, ReferenceRepository] = {
    # The main branch, from the commit on that buckets captions by length. Without a checkout the release is compared.
    "open-clip": ReferenceRepository(
        "https://github.com/mlfoundations/open_clip", "src/open_clip_train/naflex_data.py"
    ),
    "corenet": ReferenceRepository(
        "https://github.com/apple/corenet", "corenet/modeling/models/multi_modal_img_text/clip.py"
    ),
    "superclass": ReferenceRepository(
        "https://github.com/x-cls/superclass", "opencls/open_clip/cls_model.py"
    ),
}
