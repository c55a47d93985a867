"""The search for the largest batch finds it, asks little, and stays within its bounds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import with_batch_size
from bench.orchestration.batch_search import find_largest_fitting, guess_batch_size
from bench.records.record import Memory

MANY = settings(max_examples=300, derandomize=True, deadline=None, database=None)


@MANY
@given(st.integers(0, 20_000), st.integers(1, 100_000), st.integers(1, 3), st.integers(3, 12_000))
def test_largest_fitting_batch_is_found_to_three_percent(
    truth: int, guess: int, least: int, most: int
) -> None:
    asked = list[int]()

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= truth

    found = find_largest_fitting(fits, guess, least, most)
    grain = 2 ** max(0, min(max(guess, least), most).bit_length() - 6)
    assert all(least <= size <= most for size in asked)
    assert len(asked) == len({*asked})
    if found is None:
        assert truth < -(-least // grain) * grain
    else:
        assert found <= truth
        assert found + grain > min(truth, most)
        assert found in asked


def test_good_guess_needs_few_trials() -> None:
    for truth in range(500, 1500, 7):
        asked = list[int]()

        def fits(size: int, asked: list[int] = asked, truth: int = truth) -> bool:
            asked.append(size)
            return size <= truth

        find_largest_fitting(fits, round(1.1 * truth), 2, 2**20)
        assert len(asked) <= 6


def test_first_guess_follows_from_tensor_bytes() -> None:
    memory = Memory(
        steps=4,
        trained_parameters=1_000,
        peak_rss_bytes=None,
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
        peak_tensor_bytes=16_000 + 128 * 500,
    )
    assert guess_batch_size(memory, 128, 16_000 + 1_000 * 500) == 1_000
    assert guess_batch_size(memory, 128, 10) == 1


@MANY
@given(st.integers(2, 100_000))
def test_at_batch_size_keeps_about_the_same_number_of_images(size: int) -> None:
    base = EXPERIMENTS["clip-tiny"]
    other = with_batch_size(base, size)
    assert other.training.batch_size == size
    assert other.images_per_window >= min(size, base.images_per_window / 1.5)
    assert other.images_per_window <= max(4 * size, 1.5 * base.images_per_window)
    assert (
        size == base.training.batch_size
        or min(other.timing.warmup_steps, other.timing.steps_per_window) >= 4
    )
    assert (other == base) == (size == base.training.batch_size)
