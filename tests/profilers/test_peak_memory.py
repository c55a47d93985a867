"""The peak of resident memory counts what a run allocates, also in freed memory, and no file that it maps."""

import mmap
import sys
from pathlib import Path

import pytest
import torch

from bench.profilers.memory import PeakMemory
from tests.processes import in_child

MIB = 2**20
SIZE, BLOCK = 64 * MIB, 64 * 1024
ONLY_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="Linux alone tells mapped files from allocated memory"
)


def peak_of_mapping_and_allocating(path: Path) -> tuple[int, int]:
    peak = PeakMemory(torch.device("cpu"))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        sum(mapped[:: mmap.PAGESIZE])  # every page is resident then
        of_mapping = peak.read_peak_bytes_by_field()["peak_rss_bytes"]
        held = torch.ones(SIZE, dtype=torch.uint8)
        return of_mapping, peak.read_peak_bytes_by_field()["peak_rss_bytes"] * int(held[0])


@ONLY_LINUX
def test_peak_counts_allocated_memory_and_no_mapped_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(SIZE))
    of_mapping, of_both = in_child(peak_of_mapping_and_allocating, tmp_path / "file")
    assert of_mapping < 8 * MIB
    assert SIZE <= of_both < SIZE + 8 * MIB


def peak_in_place_of_freed_memory() -> int:
    # `held` keeps the heap's end.
    *freed, held = (torch.ones(BLOCK, dtype=torch.uint8) for _ in range(SIZE // BLOCK))
    del freed
    peak = PeakMemory(torch.device("cpu"))
    blocks = [torch.ones(BLOCK, dtype=torch.uint8) for _ in range(SIZE // BLOCK)]
    return peak.read_peak_bytes_by_field()["peak_rss_bytes"] * int(held[0]) * int(blocks[0][0])


@ONLY_LINUX
def test_peak_counts_what_takes_the_place_of_freed_memory() -> None:
    assert SIZE <= in_child(peak_in_place_of_freed_memory) < SIZE + 8 * MIB
