"""What long work is expected to take, from a few steps: said before it starts, and confirmed."""

from dataclasses import replace as changed
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.__main__ import main
from bench.cli.verbs import VERBS
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.orchestration import preflight
from bench.orchestration.pace import TWO_CORES, Pace
from bench.orchestration.step_trial import TRIAL_BATCHES, has_tiny_tower, measure_pace, pace_from_record, recorded_pace
from bench.records.record import Speed
from tests.orchestration.test_comparison import timed
from tests.small import small

SLOW = Pace(process_start_seconds=8.0, seconds_per_image=0.6, fixed_step_seconds=1.5)


def test_pace_of_a_small_batch_predicts_a_larger_one() -> None:
    """The update of the weights takes as long at any batch size."""
    record = timed(EXPERIMENTS["clip-tiny"], 1000.0, 0)
    assert record.experiment is not None
    experiment = change(record.experiment, batch_size=2, warmup_steps=1, steps_per_window=1, windows=1)

    def seconds(batch: int) -> float:
        return batch * SLOW.seconds_per_image + SLOW.fixed_step_seconds

    phases = {"backward": (seconds(2) - SLOW.fixed_step_seconds,), "optimizer": (SLOW.fixed_step_seconds,)}
    seen = {"warmup_seconds": seconds(2), "window_seconds": (seconds(2),), "phase_seconds": phases}
    assert isinstance(record.measured, Speed)
    tried = replace(record, experiment=experiment, measured=replace(record.measured, **seen))
    pace = pace_from_record(tried, 3 * seconds(2) + SLOW.process_start_seconds)
    for batch in (2, 64):
        assert pace.step_seconds(change(experiment, batch_size=batch)) == pytest.approx(seconds(batch))
    assert pace.process_start_seconds == pytest.approx(SLOW.process_start_seconds)


def test_resumed_command_has_the_pace_of_its_records() -> None:
    experiment, other = EXPERIMENTS["clip-vit-b16"], EXPERIMENTS["catlip-vit-b16"]
    records = [timed(one, rate, 0) for one, rate in ((experiment, 9.0), (experiment, 10.0), (other, 20.0))]
    pace = recorded_pace(records, experiment)
    assert pace is not None
    assert pace.step_seconds(experiment) == pytest.approx(experiment.training.batch_size / 10)
    assert recorded_pace(records[2:], experiment) is None


@pytest.mark.usefixtures("decoded")
def test_steps_are_tried_at_a_small_batch_of_any_experiment(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.processes import Parting

    monkeypatch.setattr("bench.orchestration.step_trial.Runner", Parting)
    experiment = small("clip", batch_size=64, images=640, image_sizes=(24, 48))
    pace = measure_pace(experiment, results, cores=1)
    assert pace != TWO_CORES
    assert 0 < pace.step_seconds(change(experiment, batch_size=TRIAL_BATCHES[0])) < pace.step_seconds(experiment)
    assert has_tiny_tower(experiment.image)
    assert not has_tiny_tower(EXPERIMENTS["clip-vit-b16"].image)


LONG = (  # commands, and the remedy that each names
    (["measure", "clip-vit-b16", "catlip-vit-b16"], "make it shorter with --rounds or --set batch_size=N"),
    (
        ["explain", "catlip-vit-b16", "--baseline", "clip-vit-b16", "--rounds", "4"],
        "with --rounds or --set batch_size=N",
    ),
    (["train", "catlip-vit-b16", "--vocabulary", "pack-synsets", "--out"], "train on fewer --images"),
)


@pytest.mark.parametrize(("arguments", "remedy"), [one for one in LONG if one[0][0] in VERBS])
def test_more_than_an_hour_on_a_cpu_starts_if_it_is_confirmed(
    arguments: list[str],
    remedy: str,
    own_results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started = list[str]()
    monkeypatch.setattr(preflight, "measure_pace", lambda *_: SLOW)
    monkeypatch.setattr("bench.orchestration.runner.Runner.run", lambda *_, **__: started.append("run"))
    monkeypatch.setattr("bench.orchestration.comparison.Comparison.run_round", lambda *_: started.append("round"))
    folder = str(own_results / "results")
    command = [*arguments, folder] if arguments[-1] == "--out" else [*arguments, "--results", folder]
    assert main(command) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: this would take about ")
    assert " days on this CPU: add --yes, or " in line or " hours on this CPU: add --yes, or " in line
    assert line.endswith(remedy)
    assert not started
    monkeypatch.setattr(
        preflight, "measure_pace", lambda *_: changed(SLOW, seconds_per_image=1e-9, fixed_step_seconds=0.0)
    )
    main(command)
    assert started
    started.clear()
    monkeypatch.setattr(preflight, "measure_pace", lambda *_: SLOW)
    main([*command, "--yes"])
    assert started
