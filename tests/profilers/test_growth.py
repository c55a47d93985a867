"""The slope of memory over steps is that of memory that is kept, and zero if none is."""

import mmap

import pytest

from bench.profilers import memory
from bench.profilers.memory import MIN_READINGS, MemoryGrowth


def slope_of(resident: list[int], monkeypatch: pytest.MonkeyPatch) -> float | None:
    values = iter(resident)
    monkeypatch.setattr(memory, "read_status_bytes", lambda _: next(values))
    looked = MemoryGrowth()
    for number in range(len(resident)):
        looked.sample(20 * (number + 1))
    return looked.bytes_per_step


def test_slope_equals_the_bytes_kept_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    filling = [10**9 + 10**6 * number for number in range(30)]
    assert slope_of(
        [*filling, *(filling[-1] + 100 * 20 * n for n in range(60))], monkeypatch
    ) == pytest.approx(100)
    assert slope_of([*filling, *[filling[-1]] * 60], monkeypatch) == pytest.approx(0, abs=1e-6)
    noisy = [10**9 + 4096 * (number % 2) for number in range(400)]
    assert abs(slope_of(noisy, monkeypatch) or 1) < 1


def test_few_samples_give_no_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slope_of([1] * MIN_READINGS, monkeypatch) is None
    monkeypatch.setattr(memory, "read_status_bytes", lambda _: None)
    looked = MemoryGrowth()
    for number in range(100):
        looked.sample(number)
    assert looked.bytes_per_step is None


def test_kept_memory_gives_a_positive_slope() -> None:
    looked, kept = MemoryGrowth(), []
    for step in range(40):
        kept.append(mmap.mmap(-1, 2**20))  # pages of its own, not such as something freed before
        kept[-1].write(b"x" * 2**20)
        looked.sample(step)
    found = looked.bytes_per_step
    assert found is None or 0.8 * 2**20 < found < 1.3 * 2**20
