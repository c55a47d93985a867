"""The exact probe of features in a file: near its optimum, in memory that does not hold them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

IMAGES, FEATURES = 200_000, 768


@pytest.mark.exhaustive
def test_probe_of_large_features_needs_less_memory_than_they_have_and_ends_at_its_optimum(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.transfer.classification.large_probe"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    printed = subprocess.check_output([*command, str(IMAGES), "50"], text=True, env=environment)
    assert "converged True" in printed
    without_files = [float(gib) * 2**30 for gib in re.findall(r"files, (\S+) GiB without", printed)]
    assert max(without_files) < IMAGES * FEATURES * 4
    (less,) = map(float, re.findall(r"(\S+) less", printed))
    assert -1e-7 <= less <= 1e-4
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
