"""Each part of `chaos` finds nothing where nothing is wrong, and finds what is wrong where something is."""

import pickle
import random
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.decoding import UnusableImageError
from bench.data.shards import facts
from bench.data.sources import tar_shards as shards_module
from tests.chaos import (
    captions,
    full_disk,
    fuzz,
    hostile,
    images,
    limit_cases,
    limits,
    loops,
    markup,
    shards,
)
from tests.chaos.attacks import attacks, bombs, pickles, terminal
from tests.chaos.bound import Check, check_at_most, check_none
from tests.chaos.broken_images import (
    SIGNATURE,
    corrupted_images,
    images_of_odd_forms,
    images_of_odd_sizes,
    images_of_other_formats,
)
from tests.chaos.made import write_shards
from tests.chaos.odd_captions import of_json, of_text
from tests.chaos.payloads import pickle_payload
from tests.chaos.strangers import checkpoints, tasks, towers
from tests.processes import in_child


def violated(bounds: list[Check]) -> list[Check]:
    return [bound for bound in bounds if not bound.is_met]


def test_checks_state_expected_and_actual() -> None:
    assert check_none("kills", 1000, []).row == {"what": "kills", "asked": "0", "found": "0 of 1,000", "holds": "yes"}
    assert check_none("kills", 10, ["one"]).row["holds"] == "no"
    assert [check_at_most("memory", 5, found, "MiB").is_met for found in (4.0, 5.0, 5.1)] == [True, True, False]


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    assert not violated(fuzz.run(0.005, 0, tmp_path))


def test_unexpected_error_of_a_reader_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> None:
        raise KeyError(path.name)

    monkeypatch.setattr(fuzz, "readers", lambda: {"one": (".x", read, [b"content"])})
    assert [bound.what.split()[4] for bound in violated(fuzz.run(0.0005, 0, tmp_path))] == ["one"]


def test_damaged_shards_with_a_manifest_are_refused(tmp_path: Path) -> None:
    assert not violated(shards.run(0.01, 0, tmp_path))


def test_undetected_bit_flip_is_classified_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "_require_equal", lambda *_: None)
    assert shards.UNSEEN in shards.damage_shards(tmp_path, shards.flip_bit, 12, 0, listed=True)


def test_bit_flip_after_the_only_verification_is_classified_as_undetected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "verified_marker_path", lambda _, index: index.with_suffix(".compared"))
    assert shards.UNSEEN in shards.damage_shards(tmp_path, shards.flip_bit, 12, 0, listed=True, warm=True)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.binary(min_size=1, max_size=100), st.integers(0, 2**32))
def test_damage_functions_change_the_content(content: bytes, seed: int) -> None:
    corrupted = shards.flip_bit(content, random.Random(seed))
    assert sum((one ^ other).bit_count() for one, other in zip(content, corrupted, strict=True)) == 1
    short = shards.truncate(content, random.Random(seed))
    assert len(short) < len(content)
    assert content.startswith(short)


def limits_of_small_inputs(folder: Path) -> list[Check]:
    limits.cases = lambda: limit_cases.cases("pipe or device", "list", "image")
    limits.markup_in_every_field = lambda _: []
    return limits.run(1.0, 0, folder)


def test_small_inputs_without_end_are_refused_or_read_right(tmp_path: Path) -> None:
    """In a process of its own, which a hanging reader does not outlive."""
    assert not violated(in_child(limits_of_small_inputs, tmp_path))


@pytest.mark.minutes
def test_inputs_without_end_are_refused_or_read_right(tmp_path: Path) -> None:
    assert len(limit_cases.cases()) >= 40
    assert not violated(in_child(limits.run, 1.0, 0, tmp_path))


def limits_of_wrong_readers(folder: Path) -> list[Check]:
    def fail(_: Path) -> None:
        raise KeyError("caption")

    wrong = {"crashes": fail, "is taken": lambda _: True, "is read wrong": lambda _: False}
    limits.cases = lambda: {name: limit_cases.Case(lambda folder: folder, read) for name, read in wrong.items()}
    limits.markup_in_every_field = lambda _: []
    return limits.run(1.0, 0, folder)


def test_input_that_is_neither_refused_nor_read_right_is_found(tmp_path: Path) -> None:
    (bound,) = violated(in_child(limits_of_wrong_readers, tmp_path))
    assert [text.split(":")[0] for text in bound.failures] == ["crashes", "is taken", "is read wrong"]


def test_broken_images_decode_or_have_an_error_class(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = images_of_other_formats() | corrupted_images() | images_of_odd_sizes() | images_of_odd_forms()
    monkeypatch.setattr(images, "broken_images", lambda: small)
    assert not violated(images.run(0.05, 0, tmp_path))
    assert len(small) + len(of_text()) + len(of_json()) >= 60


@pytest.mark.parametrize("error", [RuntimeError("?"), UnusableImageError("of no class")])
def test_a_decoder_that_crashes_is_found(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def crash(_: bytes) -> None:
        raise error

    monkeypatch.setattr(images, "broken_images", lambda: {"small": SIGNATURE})
    monkeypatch.setattr(images, "decode_image", crash)
    crashes, corrupted, *_ = images.run(0.01, 0, tmp_path)
    assert (crashes.actual, corrupted.actual) == ("1 of 1", "1 of 10")


def test_odd_captions_crash_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = {name: text for name, text in of_text().items() if len(text) < 100_000}
    monkeypatch.setattr(captions, "of_text", lambda: texts)
    monkeypatch.setattr(captions, "METHODS", ("clip", "catlip"))
    assert not violated(captions.run(0.02, 0, tmp_path))
    monkeypatch.setattr(captions, "KNOWN", ())
    monkeypatch.setattr(captions, "of_text", dict)
    monkeypatch.setattr(captions, "METHODS", ("catlip",))
    crashes, *_ = captions.run(0.002, 0, tmp_path / "again")
    assert any("of no known class" in wrong for wrong in crashes.failures)


def test_hostile_inputs_execute_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(attacks()) >= 60
    some = {name: attack for name, attack in pickles().items() if " in a shard" not in name} | terminal() | bombs()
    monkeypatch.setattr(hostile, "attacks", lambda: some | towers() | checkpoints() | tasks())
    assert not violated(hostile.run(1, 0, tmp_path))


def test_execution_writing_and_crashes_are_detected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    away = tmp_path / "away"

    def crash(_: Path) -> None:
        raise RuntimeError("?")

    made = {
        "executes": lambda folder: pickle.loads(pickle_payload(folder)),
        "writes": lambda _: away.write_text("x"),
        "is obeyed": lambda _: print("\x1b[2J"),
        "crashes": crash,
        "reads": lambda _: Path("/etc/passwd").read_text() and None,
        "is refused": lambda _: int("x"),
    }
    monkeypatch.setattr(hostile, "attacks", lambda: made)
    monkeypatch.setattr(hostile, "markup_in_pages", lambda _: [])
    executed, written, crashes, obeyed, *_ = hostile.run(1, 0, tmp_path)
    assert {wrong.partition(":")[0] for wrong in executed.failures} == {"executes"}
    assert len(executed.failures) == 2  # what Python was asked for, and the file that the payload makes
    assert [wrong.partition(":")[0] for wrong in written.failures] == ["writes", str(away)]  # an event, and the file
    assert [wrong.partition(":")[0] for wrong in crashes.failures] == ["crashes"]
    assert [wrong.partition(":")[0] for wrong in obeyed.failures] == ["is obeyed"]


def test_file_written_outside_without_an_audit_event_is_detected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "there before").mkdir()
    unheard = {"in C": lambda folder: pa.OSFile(str(folder / ".." / "beside"), "wb").close()}
    monkeypatch.setattr(hostile, "attacks", lambda: unheard)
    monkeypatch.setattr(hostile, "markup_in_pages", lambda _: [])
    _, changed, *_ = hostile.run(1, 0, tmp_path)
    assert changed.failures == (str(tmp_path / "beside"),)


def test_unescaped_markup_in_a_page_is_detected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(markup, "MARKUP", ("clip", "method", "tower", "images"))  # which no page escapes
    (tmp_path / "pages").mkdir()
    found = {text.split(":")[0] for text in markup.markup_in_pages(tmp_path / "pages")}
    assert found == {"build", "history", "plan"}


def loops_that_leave_nothing_and_files(folder: Path) -> tuple[list[Check], Check]:
    loops.MOST_GROWTH = 0.5  # so few loops fill caches
    bounds, kept = loops.run(0.008, 0, folder), []
    loops.train_in_process = lambda *_: kept.append((folder / "open").open("w"))
    return bounds, loops.run(0.008, 0, folder / "again")[1]


def test_repeated_trainings_leave_no_open_files(tmp_path: Path) -> None:
    """In a process of its own, for memory and files of this one are other tests', too."""
    bounds, files = in_child(loops_that_leave_nothing_and_files, tmp_path)
    assert not violated(bounds)
    assert (files.actual, files.is_met) == ("+8", False)


def test_full_disk_loses_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried by anybody, and once more by who may mount a disk."""
    monkeypatch.setattr(full_disk, "STEPS", 6)
    monkeypatch.setattr("bench.train.loop.CHECK_INTERVAL", 2)  # the same number of checkpoints in fewer steps
    bounds = full_disk.run(1, 0, tmp_path)
    assert not violated(bounds)
    assert len(bounds) in (3, 6)
    monkeypatch.setattr(full_disk, "limit_file_size", lambda _: nullcontext())
    monkeypatch.setattr(full_disk, "mount_small_disk", lambda *_: nullcontext(enter_result=False))
    (tmp_path / "again").mkdir()
    assert [bound.is_met for bound in full_disk.run(1, 0, tmp_path / "again")] == [True, False, False]


def test_generated_shards_have_unequal_lengths(tmp_path: Path) -> None:
    assert len({path.stat().st_size for path in write_shards(tmp_path, listed=True)}) == 3
