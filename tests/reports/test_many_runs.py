"""A page of 500 runs can be sent: under 2 MB, built without a deep-learning framework."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.environment.circumstances import CHECKOUT
from tests.reports.conftest import whole_comparison, write_records

LARGEST = 2_000_000  # bytes
CODE = (
    "import sys; from bench.__main__ import main; assert main(['report', 'build', sys.argv[1]]) == 0; "
    "print(*({'torch', 'open_clip', 'timm', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
)


@pytest.mark.slow
def test_a_page_of_many_rounds_and_seeds_is_under_2_mb_and_drawn_without_torch_or_warnings(
    tmp_path: Path,
) -> None:
    """Four experiments: 60 rounds, 13 seeds."""
    records = whole_comparison(rounds=60, seeds=13)
    assert len(records) >= 498
    results = write_records(records, tmp_path)
    command = [sys.executable, "-W", "error", "-c", CODE, str(results)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stderr == "\n"  # no frameworks
    assert (results / "index.html").stat().st_size < LARGEST
