"""Curves hold what the records do, at the images seen; TensorBoard's own reader gives them back."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from msgspec.structs import replace

from bench.measure.throughput import window_rates
from bench.records.record import Memory, Record, Speed, Training, Transfer
from bench.records.scores import MetricScore, Score
from reports.__main__ import main
from reports.exports.scalars import Scalar, Scalars, read_scalars, scalars_of

Make = dict[str, Callable[..., Any]]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def records(make: Make) -> list[Record]:
    found: list[Record] = make["whole"](rounds=2, seeds=2)
    return found


def points(found: Sequence[Scalars], name: str, curve: str) -> list[tuple[int, float]]:
    (one,) = [one for one in found if one.folder.name == name]
    return [(point.images, point.value) for point in one.points if point.name == curve]


def of(records: Sequence[Record], name: str, kind: type) -> list[Record]:
    return [r for r in records if r.experiment and r.experiment.name == name and isinstance(r.measured, kind)]


def test_every_loss_speed_memory_and_score_is_exported_once(records: list[Record]) -> None:
    found = scalars_of(records)
    count = sum(len(one.points) for one in found)
    expected = 0
    for record in records:
        match record.measured:
            case Training() as training:
                expected += len(training.trunk_losses) + sum(map(len, training.cooldown_losses))
            case Speed() as timed:
                expected += len(timed.window_seconds)
            case Memory():
                expected += 2  # resident memory and tensors; no device was there
            case Transfer() as transfer:
                expected += len(transfer.scores)
    assert count == expected
    assert len({one.folder for one in found}) == len(found)
    assert all(list(one.points) == sorted(one.points) for one in found)
    assert scalars_of(reversed(records)) == found


def test_curves_end_at_their_runs_last_image(records: list[Record]) -> None:
    found = scalars_of(records)
    (training,) = [r.measured for r in of(records, "clip-tiny", Training) if r.experiment and r.experiment.seed == 1]
    assert isinstance(training, Training)
    trunk = points(found, "clip-tiny.seed1", "loss/trunk")
    assert [loss for _, loss in trunk] == list(training.trunk_losses)
    assert trunk[-1][0] == 128 * len(training.trunk_losses)
    assert points(found, "clip-tiny.seed1", "loss/cool-down to 80,000 images")[-1][0] == 80_000
    first = of(records, "clip-tiny", Speed)[0]
    assert isinstance(first.measured, Speed)
    assert first.experiment is not None
    rates = points(found, "clip-tiny.seed0", "images per second/round 1")
    assert [rate for _, rate in rates] == pytest.approx(window_rates(first.experiment, first.measured))
    steps = (
        first.experiment.timing.warmup_steps
        + first.experiment.timing.windows * first.experiment.timing.steps_per_window
    )
    assert rates[-1][0] == 128 * steps
    scores = points(found, "clip-tiny.seed0", "accuracy/rooms, linear probe")
    assert [images for images, _ in scores] == [20_000, 40_000, 80_000]
    assert all(0 < share < 1 for _, share in scores)
    assert points(found, "random-init.seed1", "accuracy/rooms, k-NN")[0][0] == 0
    assert points(found, "raw-pixels", "accuracy/rooms, k-NN")


def test_distributed_runs_count_global_images_at_the_slowest_ranks_speed(make: Make) -> None:
    one = make["speed"]("clip-tiny", 0)
    slow = replace(one.measured, window_seconds=(1.0,), rank_window_seconds=((1.0,), (2.0,)))
    two = replace(one, measured=slow, circumstances=replace(one.circumstances, processes=2))
    (found,) = scalars_of([two])
    images, steps = (
        128 * one.experiment.timing.steps_per_window,
        one.experiment.timing.warmup_steps + one.experiment.timing.steps_per_window,
    )
    assert found.points == (Scalar(2 * 128 * steps, "images per second/round 1", images),)


def test_draws_are_averaged_and_few_label_points_left_out(make: Make) -> None:
    score = {
        **dict.fromkeys(("chosen", "validation_accuracy", "majority"), 0.5),
        "task": "t",
        "protocol": "p",
        "converged": True,
        "num_classes": 2,
        "num_train": 9,
    }
    scores = [Score(correct="1100", **score), Score(correct="1", per_class=4, **score)]
    scores.append(Score(correct="1", label_share=0.1, **score))
    metric = {"task": "t", "protocol": "p", "name": "mIoU", "num_train": 9, "num_test": 9, "baseline": None}
    metrics = tuple(MetricScore(value=value, draw=draw, **metric) for draw, value in enumerate((0.2, 0.4)))
    transfer = Transfer(subject="clip-tiny", images=7, budgets=(), scores=tuple(scores), metrics=metrics)
    (found,) = scalars_of([make["record"](transfer, None)])
    assert found.points == (Scalar(7, "accuracy/t, p", 0.5), Scalar(7, "mIoU/t, p", fmean((0.2, 0.4))))


def test_untrusted_names_become_plain_folders(make: Make) -> None:
    transfer = Transfer(subject="../x", images=0, budgets=(), scores=())
    (found,) = scalars_of([replace(make["record"](transfer, None), comparison="../../y")])
    assert ".." not in str(found.folder)
    assert len(found.folder.parts) == 2


def test_records_without_curves_are_reported(tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make["written"]([make["failure"]()], tmp_path / "failed")
    for place, text in (("failed", "no record of a training, a speed"), ("none", "there is no ")):
        arguments = ["export", str(tmp_path / place), "--format", "tensorboard", "--out", str(tmp_path / "out")]
        assert main(arguments) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_package_is_reported_with_the_remedy(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    make["written"]([make["memory"]("clip-tiny")], tmp_path)
    assert main(["export", str(tmp_path), "--format", "tensorboard", "--out", str(tmp_path / "out")]) == 2
    assert "pip install -e '.[tensorboard]'" in capsys.readouterr().err


needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="the extra tensorboard is missing")


@needs_tensorboard
@pytest.mark.filterwarnings("ignore")  # TensorBoard's own
def test_tensorboard_reads_every_point(tmp_path: Path, records: list[Record], make: Make) -> None:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    results, out = make["written"](records, tmp_path / "results"), tmp_path / "out"
    for _ in range(2):  # what is there is written anew
        assert main(["export", str(results), "--format", "tensorboard", "--out", str(out)]) == 0
    expected = read_scalars([results], [])
    assert len([path for path in out.rglob("*") if path.is_file()]) == len(expected)
    for one in expected:
        read = EventAccumulator(str(out / one.folder), size_guidance={SCALARS: 0}).Reload()
        names = {point.name for point in one.points}
        assert {*read.Tags()["scalars"]} == names
        for name in names:
            wanted = [(point.images, pytest.approx(point.value)) for point in one.points if point.name == name]
            assert [(event.step, event.value) for event in read.Scalars(name)] == wanted


@needs_tensorboard
@pytest.mark.filterwarnings("ignore")
def test_event_files_are_reproducible_without_torch(tmp_path: Path, make: Make) -> None:
    records = [make["speed"]("clip-tiny", 0), make["memory"]("clip-tiny")]
    results = make["written"](records, tmp_path / "results")
    code = (
        "import sys; from reports.__main__ import main; assert main(sys.argv[1:]) == 0; "
        "print(*({'torch', 'tensorflow'} & set(sys.modules)), file=sys.stderr)"
    )
    words = ["export", str(results), "--format", "tensorboard", "--out"]
    command = [sys.executable, "-W", "ignore", "-c", code, *words, str(tmp_path / "one")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stderr.strip()
    assert main([*words, str(tmp_path / "two")]) == 0
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / out).rglob("*tfevents*")} for out in ("one", "two")
    )
    assert one == two != {}
