"""Import of apple/corenet from a checkout."""

import sys
from pathlib import Path

import torchvision.io

from bench.features.reference import CHECKOUTS
from bench.features.reference.checkouts import stub_missing_packages


def import_corenet(checkout: Path) -> None:
    """Make `corenet` importable from a checkout, with empty replacements of what is not installed and no step uses."""
    sys.path.append(str(checkout))
    stub_missing_packages(CHECKOUTS["corenet"].unused)
    for name in ("write_video", "read_video"):  # torchvision has dropped them
        if not hasattr(torchvision.io, name):
            setattr(torchvision.io, name, None)
