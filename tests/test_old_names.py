"""Names of earlier versions: records and files with them are read as if written today; old spellings work."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from msgspec.structs import replace

from bench.__main__ import main
from bench.catalog import PACK_TASKS, SILHOUETTES, TASK_KINDS
from bench.cli.main import parse
from bench.experiments import EXPERIMENTS
from bench.explain.factors import select_factors
from bench.ladder import Configuration, ExpectedRatio, Factor, Ladder
from bench.measure.throughput import require_comparable
from bench.old_names import (
    EXPERIMENT_FIELDS,
    FIELD_VALUES,
    OPTIONS,
    VERBS,
    _report_rename,
    first_task_name,
    upgrade_experiment_name,
    upgrade_options,
    upgrade_typed_task,
)
from bench.record import (
    FORMAT,
    Record,
    ReferenceRun,
    Transfer,
    is_record,
    read_record,
    read_records,
)
from bench.settings import with_settings
from bench.towers.head_file import save_tower
from bench.towers.provenance import Provenance, read_provenance
from bench.train.checkpoints import STATE, CheckpointMetadata, read_metadata
from tests.reports.conftest import HERE

RECORDS = Path(__file__).parent / "records"
OLD_FIELDS = {new: old for old, new in EXPERIMENT_FIELDS.items()}
OLD_PADDING = {new: old for old, new in FIELD_VALUES["text_padding"].items()}
NAME = "clip-tiny[injected_slowdown=0.1,text_padding=max_length]"
NEW = replace(
    with_settings(EXPERIMENTS["clip-tiny"], ["text_padding=max_length", "injected_slowdown=0.1"]),
    simulated_global_batch=64,
)


def plain(value: Any) -> Any:
    """A struct as a JSON document."""
    return msgspec.json.decode(msgspec.json.encode(value))


def older(value: Any) -> Any:
    """A document as the format before had it: other names of fields, of values, and within names."""
    if isinstance(value, dict):
        names = {
            **OLD_FIELDS,
            "configurations": "cells",
            "references": "lines",
            "stage": "rung",
            "global_negatives": "columns",
        }
        found = {names.get(key, key): older(one) for key, one in value.items()}
        if "text_padding" in found:
            found["text_padding"] = OLD_PADDING[found["text_padding"]]
        return found
    if isinstance(value, list):
        return list(map(older, value))
    if isinstance(value, str):
        if value.startswith("clip-tiny["):
            return "clip-tiny[planted_delay=0.1,text_padding=full]"
        texts = {
            "reference": "peer",
            "random init": "random tower",
            "random init of x": "random tower of x",
            "global_negatives": "columns",
            "simulated_global_batch=64": "simulated_batch=64",
            "simulated_global_batch=null": "simulated_batch=null",
        }
        return texts.get(value, value)
    return value


def record(measured: Any) -> Record:
    return Record(comparison="c", experiment=NEW, circumstances=HERE, measured=measured)


def transfer(subject: str) -> Transfer:
    return Transfer(subject=subject, images=0, budgets=(), scores=())


MEASURED: dict[str, Any] = {
    "an experiment": transfer(NAME),
    "an untrained tower": transfer("random init"),
    "an untrained tower of another": transfer("random init of x"),
    "reference features": transfer("raw pixels"),
    "other people's code": ReferenceRun(
        side="ours", round=0, window_seconds=(1.0,), losses=(1.0,), tokens_per_caption=None, target_bytes_per_image=None
    ),
    "a ladder": Ladder(
        causes=("head and loss",),
        factors=(
            Factor(name="global_negatives", before="simulated_global_batch=64", after="simulated_global_batch=null"),
        ),
        configurations=(Configuration(experiment=NAME, stage=1, after=("global_negatives",)),),
        left_out={"global_negatives": "a reason"},
        references=(ExpectedRatio(what="published", ratio=2.0, source="a paper"),),
    ),
}


@pytest.mark.parametrize("what", MEASURED)
def test_record_of_the_format_before_equals_one_of_today(what: str, tmp_path: Path) -> None:
    new = record(MEASURED[what])
    document = older(plain(new)) | {"format": 3}
    path = tmp_path / "c.transfer.x.json"
    path.write_bytes(msgspec.json.encode(document))
    assert b"global_negatives" not in path.read_bytes()
    assert read_record(path) == new
    require_comparable([read_record(path), new], may_differ=())


@pytest.mark.parametrize("number", [3, FORMAT - 1])
def test_record_with_a_task_name_of_before_equals_one_of_today(number: int, tmp_path: Path) -> None:
    kept = replace(read_record(next(RECORDS.glob("*-smoke.transfer.raw-pixels.json"))), format=FORMAT)
    assert {*SILHOUETTES} < {one.task for one in kept.measured.scores}
    document = plain(kept)
    for score in document["measured"]["scores"]:
        score["task"] = score["task"].replace("silhouettes ", "silhouettes, ")
    path = tmp_path / "c.transfer.x.json"
    path.write_bytes(msgspec.json.encode(document | {"format": number}))
    assert read_record(path) == kept
    require_comparable([read_record(path), kept], may_differ=())


def test_task_name_of_before_is_read_and_its_splits_are_those_of_before(capsys: pytest.CaptureFixture[str]) -> None:
    old = [first_task_name(task) for task in PACK_TASKS]
    assert old[-2:] == ["silhouettes, 20 per class", "silhouettes, 100 per class"]
    assert tuple(map(upgrade_typed_task, old)) == PACK_TASKS
    assert "silhouettes, 20 per class is now silhouettes 20 per class" in capsys.readouterr().err
    assert not any("," in task for task in TASK_KINDS)


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in RECORDS.rglob("*.json")}), ids=lambda path: path.name
)
def test_kept_records_have_the_names_of_today(folder: Path) -> None:
    for one in read_records(folder):
        assert one.format in (2, FORMAT)  # what changed its meaning since stays apart
        text = msgspec.json.encode(one).decode()
        assert not any(
            f'"{old}"' in text or f"{old}=" in text for old in (*EXPERIMENT_FIELDS, "cells", "rung", "random tower")
        )
        assert one.experiment is None or one.experiment.text_padding in FIELD_VALUES["text_padding"].values()


@pytest.mark.parametrize(
    "change", [{"measured": {}}, {"measured": 1}, {"experiment": 1}, {"measured": {"kind": "ladder"}}]
)
def test_broken_record_of_the_format_before_is_refused_with_its_name(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.transfer.x.json"
    document = older(plain(record(transfer("x")))) | {"format": 3} | change
    path.write_bytes(msgspec.json.encode(document))
    with pytest.raises(ValueError, match=r"c\.transfer\.x\.json: "):
        read_record(path)


def test_files_of_old_kinds_are_records() -> None:
    assert is_record(Path("c.peer.clip-tiny.seed0.ours.round00.json"))
    assert is_record(Path("c.reference.clip-tiny.seed0.ours.round00.json"))
    assert not is_record(Path("c.tower.clip-tiny.json"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("clip-tiny", "clip-tiny"),
        ("clip-tiny[text_padding=full]", "clip-tiny[text_padding=max_length]"),
        ("a[image_sizes=[32,64],planted_delay=0.1]", "a[image_sizes=[32,64],injected_slowdown=0.1]"),
        (
            "a[batch_size=8][learning_rate=1,planted_delay=0.1]",
            "a[batch_size=8][injected_slowdown=0.1,learning_rate=1]",
        ),
        ("a[last_learning_rate=0.1,seed=1]", "a[min_learning_rate=0.1,seed=1]"),
    ],
)
def test_settings_in_a_name_are_written_as_today(old: str, new: str) -> None:
    assert upgrade_experiment_name(old) == upgrade_experiment_name(new) == new


def test_tower_with_old_names_says_how_it_was_made(tmp_path: Path) -> None:
    provenance = Provenance(experiment=NEW, images=3, budgets=("equal images",))
    facts = {"made": json.dumps(older(plain(provenance)))}
    save_tower({"x": torch.zeros(1)}, tmp_path / "a.safetensors", facts)
    assert "planted_delay" in facts["made"]
    assert read_provenance(tmp_path / "a.safetensors") == provenance


def test_checkpoint_with_old_names_is_read(tmp_path: Path) -> None:
    state = CheckpointMetadata(
        comparison="c",
        experiment=NEW,
        budgets={"equal images": 96},
        commit="c",
        steps_taken=5,
        phase="trunk",
        images=80,
        processes=1,
        data_digest="d",
        seconds=1.0,
    )
    (tmp_path / STATE).write_text(json.dumps(older(plain(state))))
    assert read_metadata(tmp_path) == state


@pytest.fixture(autouse=True)
def untold() -> None:
    _report_rename.cache_clear()


SPELLINGS: list[tuple[Sequence[str], Sequence[str], str]] = [
    (["explain", "a", "--against", "b"], ["explain", "a", "--baseline", "b"], "--against is now --baseline"),
    (["explain", "a", "--against=b"], ["explain", "a", "--baseline=b"], "--against is now --baseline"),
    (
        ["explain", "a", "--baseline", "b", "--combinations"],
        ["explain", "a", "--baseline", "b", "--factorial"],
        "--combinations is now --factorial",
    ),
    (
        ["explain", "a", "--baseline", "b", "--no-combinations"],
        ["explain", "a", "--baseline", "b", "--no-factorial"],
        "--no-combinations is now --no-factorial",
    ),
    (["measure", "a", "--published"], ["measure", "a", "--allow-differences"], "--published is now --allow-diff"),
    (["plan", "a", "--check", "2"], ["plan", "a", "--validate-local", "2"], "--check is now --validate-local"),
    (["peer", "open-clip"], ["reference", "open-clip"], "peer is now reference"),
]


@pytest.mark.parametrize(
    ("old", "new", "text"), SPELLINGS, ids=lambda one: " ".join(one) if isinstance(one, list) else ""
)
def test_old_spelling_works_and_is_told_once(
    old: list[str], new: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse(old) == parse(old) == parse(new)
    assert capsys.readouterr().err.count(text) == 1
    parse(new)
    assert not capsys.readouterr().err


def test_options_of_other_verbs_keep_their_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert upgrade_options("plan", ["--published", "--check", "2"]) == ["--published", "--validate-local", "2"]
    assert upgrade_options("chaos", ["--share", "0.1"]) == ["--fraction", "0.1"]
    assert upgrade_options("train", ["--against", "x", "--"]) == ["--against", "x", "--"]
    assert capsys.readouterr().err.count("is now") == 2


def test_old_spellings_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, options in OPTIONS.items():
        if verb == "chaos":
            continue
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        text = capsys.readouterr().out
        assert all(f"--{new}" in text for new in options.values())
        assert not any(f"--{old} " in text for old in options)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert not any(f"  {old} " in capsys.readouterr().out for old in VERBS)


def test_old_setting_and_factor_are_those_of_today(capsys: pytest.CaptureFixture[str]) -> None:
    clip, catlip = EXPERIMENTS["clip-tiny"], EXPERIMENTS["catlip-tiny"]
    assert with_settings(clip, ["planted_delay=0.1"]) == with_settings(clip, ["injected_slowdown=0.1"])
    assert with_settings(clip, ["text_padding=full"]).text_padding == "max_length"
    found = select_factors(clip, catlip, ["columns", "planted_delay=0.5"], on_gpu=True)
    assert found == select_factors(clip, catlip, ["global_negatives", "injected_slowdown=0.5"], on_gpu=True)
    text = capsys.readouterr().err
    assert "columns is now global_negatives" in text
    assert text.count("planted_delay=0.1 is now injected_slowdown=0.1") == 1
