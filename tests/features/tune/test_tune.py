"""The search finds the best rate of simulated methods, gives all methods equal draws, and reads no test part."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch

from bench.__main__ import main
from bench.cli.options import find_experiments_with_settings
from bench.experiment import config, experiments
from bench.experiment.config import change, get_field, require_comparable_experiments
from bench.experiment.experiments import EXPERIMENTS, METHOD_SETTINGS, find_tuning_origin
from bench.experiment.fields import PositiveFloat, SettingsGroup, field_metadata
from bench.experiment.tuned_settings import (
    KEPT_SETTINGS,
    TunedSettings,
    format_tuned_settings,
    read_tuned_settings,
)
from bench.features.tune import runs
from bench.features.tune.halving import RUNG_SHARES, find_best_trial
from bench.features.tune.runs import run_trial
from bench.features.tune.space import FACTORS, draw_trials
from bench.train.not_finite import NotFiniteError
from tests.features.tune.responses import Response
from tests.small import circumstances, few_images
from tests.transfer.toys import toy_task
from tests.transfer.trees import folders

CPU = torch.device("cpu")
SIMULATIONS = 150


def search_simulated(seed: int, num_trials: int) -> float:
    """Return the ratio of the chosen rate and the best one, the larger over the smaller."""
    response = Response.draw(seed)
    experiment = change(EXPERIMENTS["clip-tiny"], seed=seed)
    rates = [trial.optimizer.learning_rate for trial in draw_trials(experiment, num_trials)]
    log_rates = np.log(rates) - math.log(experiment.optimizer.learning_rate)
    effects = response.draw_effects(num_trials)

    def score_trials(rung: int, numbers: Sequence[int]) -> list[float]:
        share = RUNG_SHARES[rung]
        return [response.accuracy(log_rates[k], share, effects[k]) for k in numbers]

    chosen = find_best_trial(num_trials, score_trials)
    return math.exp(abs(log_rates[chosen] - response.best_log_rate))


@pytest.mark.parametrize("num_trials", [9, 27])
def test_search_finds_a_rate_within_a_factor_of_one_and_a_half_in_80_percent(
    num_trials: int,
) -> None:
    ratios = [search_simulated(seed, num_trials) for seed in range(SIMULATIONS)]
    assert np.mean([ratio <= 1.5 for ratio in ratios]) >= 0.8


def test_a_third_goes_on_and_what_failed_is_never_chosen() -> None:
    asked = []

    def score_trials(_: int, numbers: Sequence[int]) -> list[float]:
        asked.append(len(numbers))
        return [math.nan if number > 2 else number / 12 for number in numbers]

    assert find_best_trial(12, score_trials) == 2
    assert asked == [12, 4, 1]


class OwnSettings(SettingsGroup, frozen=True):
    margin: Annotated[PositiveFloat, field_metadata("Margin.", tuned_over=(0.1, 0.2, 0.4))] = 0.2
    kept: Annotated[PositiveFloat, field_metadata("Not searched.")] = 1.0


def test_draws_are_equal_for_all_methods_and_within_the_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config, "_METHOD_FIELDS", dict(config._METHOD_FIELDS))
    config.declare_method_fields("catlip", OwnSettings)
    clip, catlip = EXPERIMENTS["clip-tiny"], EXPERIMENTS["catlip-tiny"]
    trials = draw_trials(clip, 10)
    others = draw_trials(catlip, 10)
    assert (trials[0], others[0]) == (clip, catlip)
    assert trials == draw_trials(clip, 10) != draw_trials(change(clip, seed=1), 10)
    for field, factor in FACTORS.items():
        ratios = [get_field(trial, field) / get_field(clip, field) for trial in trials]
        assert ratios == pytest.approx(
            [get_field(other, field) / get_field(catlip, field) for other in others], rel=0.01
        )
        places = (np.log(ratios[1:]) / math.log(factor) + 1) / 2 * 9
        assert sorted(map(int, places)) == list(range(9))  # one in each part of the space
    assert {get_field(other, "margin") for other in others} == {0.1, 0.2, 0.4}
    assert {get_field(other, "kept") for other in others} == {1.0}


class Unreadable:
    """A part that nothing may look at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the test part was read")


def trial_of(tmp_path: Path) -> Any:
    return run_trial(few_images("catlip"), CPU, tmp_path, circumstances(), ("toy",), "")


def test_trial_reads_no_test_part(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(toy_task(24, 12, 12), test=Unreadable())
    monkeypatch.setattr(runs, "load_task", lambda *_: task)
    trial = trial_of(own_results)
    assert {*trial.accuracies} == {"toy"}
    assert trial.accuracy > 0.5
    assert trial.images == 96
    assert trial.device_seconds > 0
    assert not list(own_results.glob("*.safetensors"))


def test_trial_whose_loss_is_not_finite_has_no_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> None:
        raise NotFiniteError(3, [])

    monkeypatch.setattr(runs, "train", diverge)
    trial = trial_of(tmp_path)
    assert math.isnan(trial.accuracy)
    assert trial.device_seconds >= 0


@pytest.mark.slow
@pytest.mark.usefixtures("forked_runs")
def test_tune_writes_settings_that_train_takes_and_resumes_what_is_missing(
    own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders(own_results / "colours", {"train": 8, "val": 4, "test": 4})
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    out = own_results / "tune"
    words = ["tune", "catlip", "--max-images-seen", "144", "--score-on", str(root)]
    words += ["--results", str(out)]
    words += ["--set", "batch_size=16", "--set", "subset=random:96", "--json", "-"]
    assert main(words) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)["Trials"]["rows"]
    assert sorted(row["images"] for row in rows) == [16] * 9 + [48] * 3 + [144]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    (path,) = out.glob("*.settings.toml")
    assert path.read_text() in captured.err
    (chosen,) = read_tuned_settings(path).values()
    assert f"{sum(row['images'] for row in rows)} images" in chosen.source
    record = out / chosen.source.partition("record ")[2]
    assert record.is_file()

    (experiment,) = find_experiments_with_settings(["catlip-tiny"], [], path)
    last = max(rows, key=lambda row: row["images"])
    assert last["trial"].endswith(experiment.name.removeprefix("catlip-tiny"))
    (plain,) = find_experiments_with_settings(["catlip-tiny"], ["learning_rate=0.5"], path)
    assert plain.optimizer.learning_rate == 0.5
    with pytest.raises(ValueError, match="has settings of catlip-tiny, not of clip-tiny"):
        find_experiments_with_settings(["clip-tiny"], [], path)

    record.unlink()
    written = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert main([*words, "--resume"]) == 0
    assert written.items() < {path: path.stat().st_mtime_ns for path in out.glob("*.json")}.items()
    (again,) = read_tuned_settings(path).values()
    assert again.settings == chosen.settings
    assert main([*words, "--resume", "--trials-per-method", "10"]) == 2


def test_kept_settings_are_those_of_the_named_experiment_which_is_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {*KEPT_SETTINGS} <= {*EXPERIMENTS}
    settings = ["learning_rate=0.0007", "weight_decay=0.1", "warmup_images=9000"]
    monkeypatch.setitem(KEPT_SETTINGS, "flip-tiny", TunedSettings(settings=settings, source="s"))
    tuned = experiments._make_experiment("flip", "tiny")
    monkeypatch.setitem(EXPERIMENTS, "flip-tiny", tuned)
    assert tuned.name == "flip-tiny"
    assert [get_field(tuned, field) for field in FACTORS] == [0.0007, 0.1, 9000]
    assert find_tuning_origin(tuned) == experiments.TuningOrigin("searched", "s")
    assert find_tuning_origin(change(tuned, learning_rate=1.0)).state == "untuned"
    require_comparable_experiments([EXPERIMENTS["clip-tiny"], tuned])


def test_settings_file_comes_back(tmp_path: Path) -> None:
    tuned = {
        name: TunedSettings(settings=["flip=true", 'tower="a'], source="line\nother")
        for name in METHOD_SETTINGS
    }
    path = tmp_path / "settings.toml"
    path.write_text(format_tuned_settings(tuned))
    assert read_tuned_settings(path) == tuned


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tune flop", "no experiment named 'flop-tiny'; did you mean 'flip-tiny'"),
        ("tune clip --scale big", "no experiment named 'clip-big'"),
        ("tune", "name the methods"),
        ("tune clip --trials-per-method 8", "--trials-per-method must be from 9 to 999, got 8"),
        ("tune clip --max-images-seen many", "--max-images-seen must be 1 to"),
        ("tune clip --max-images-seen 1000", "images_seen must be a batch or more, got 111"),
        ("tune clip --task coco-labels", "tune needs one class per image"),
        ("tune clip --resume", "has no 'tune' comparison to resume"),
        ("train clip-tiny --tuned-settings missing.toml", "missing.toml"),
        ("train clip-tiny --tuned-settings broken.toml", "broken.toml: "),
        ("measure clip-tiny --tuned-settings other.toml", "other.toml: Expected `object`"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    words: str,
    message: str,
    own_results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(own_results)
    Path("broken.toml").write_text("[clip-tiny\n")
    Path("other.toml").write_text("clip-tiny = 3\n")
    assert main(words.split()) == 2
    text = capfd.readouterr().err
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in text
