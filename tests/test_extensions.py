"""What other people add is used as what is here, by one door; docs/extending.md describes the files."""

import base64
import bz2
import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from bench.console.console import INCONCLUSIVE, OK, USAGE, StopRequest
from bench.environment.circumstances import LOADED_EXTENSIONS
from bench.experiment.config import change
from bench.interfaces.extensions import ENTRY_POINT_GROUP, load_features_and_extensions
from bench.measure.figures import summarize_extension_measurements
from bench.records.record import (
    Record,
    Speed,
    Training,
    TransferScores,
    list_record_files,
    read_record,
    write_record,
)
from bench.records.record_kind import UnknownRecordContent
from bench.tables.formats import format_rate
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import CheckpointConfig, find_latest_valid_checkpoint
from tests.chaos.short import train_in_process
from tests.data.shards import CAPTIONS, encode_image, make_image
from tests.processes import LONGEST_SECONDS, answer, answered, in_child
from tests.reports.test_page import Document
from tests.small import small
from tests.train.test_elastic import StopsLater

ROOT = Path(__file__).parents[1]
SETTINGS = (
    "batch_size=16",
    "subset=random:96",
    "untimed_steps=1",
    "timed_windows=1",
    "steps_per_window=1",
)
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]
IMPORTS = """from typing import Annotated
from bench.experiment.experiments import MethodChangesFromClip
from bench.experiment.fields import SettingsGroup, field_metadata
from bench.interfaces.data_source import DataSource
from bench.interfaces.extensions import Extension
from bench.interfaces.method import Method
from bench.interfaces.verb import LazyVerb
from bench.methods.clip import Clip
from bench.records.record_kind import RecordContent
"""
VERB = f"""{IMPORTS}
from dataclasses import dataclass

@dataclass
class Mine:
    "Say that it runs."
    def run(self):
        print("it runs")
        return 0

"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page."""
    return write_examples(tmp_path_factory.mktemp("extensions"))


def write_examples(folder: Path) -> Path:
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (folder / "rotation.py").write_text(code, encoding="utf-8")
    for path in (ROOT / "docs" / "extensions").glob("*.py"):
        (folder / path.name).write_text(path.read_text(encoding="utf-8"))
    return folder


def run(
    folder: Path, *words: str, program: tuple[str, ...] = ("-m", "bench"), **environment: str
) -> tuple[int, str]:
    paths = os.pathsep.join([str(ROOT), environment.pop("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *program, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def answers(folder: Path, *commands: Sequence[str]) -> list[tuple[int, str]]:
    """Return exit codes and texts of command lines, one after the other in one process."""
    return in_child(_answers, folder, commands)


def _answers(folder: Path, commands: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    return [answered(folder, words) for words in commands]


def records_of(results: str | Path, kind: type = Speed) -> list[Record]:
    records = map(read_record, list_record_files(Path(results)))
    return [record for record in records if isinstance(record.measured, kind)]


LOADS = """import sys
from bench.environment.circumstances import LOADED_EXTENSIONS
from bench.experiment.experiments import get_experiment
from bench.interfaces.extensions import load_features_and_extensions
load_features_and_extensions()
assert get_experiment(sys.argv[1]).method == "rotation"
print(LOADED_EXTENSIONS["rotation"])
"""
UNUSABLE = {  # the code of an extension, and the reason why it cannot be used
    "def": "SyntaxError: invalid syntax",
    f"{IMPORTS}EXTENSION = Extension([Clip()])": "this program has the method clip already",
    f"{IMPORTS}EXTENSION = Extension([Clip])": "must be an object of the class bench.interfaces.method.Method",
    f"""{IMPORTS}class Own(SettingsGroup, frozen=True): batch_size: Annotated[int, field_metadata('A')] = 1
class Mine(Clip): name, settings = 'mine', Own
EXTENSION = Extension([Mine()])""": "the method mine declares batch_size, which experiments have",
    f"""{IMPORTS}class Mine(RecordContent, frozen=True, kw_only=True): pass
EXTENSION = Extension(record_kinds=[Mine])""": "must be a subclass of RecordContent with a tag",
    f"{IMPORTS}EXTENSION = Extension(methods=None)": "'NoneType' object is not iterable",
}


def test_extension_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    commands = []
    for number, code in enumerate(UNUSABLE):
        (tmp_path / f"mine{number}.py").write_text(code)
        commands.append(("--extension", f"mine{number}.py", "list"))
    for (code, text), reason in zip(answers(tmp_path, *commands), UNUSABLE.values(), strict=True):
        assert (code, text.count("\n")) == (USAGE, 1), text
        assert " cannot be loaded: " in text
        assert reason in text


def test_verb_of_an_extension_is_run_and_listed(tmp_path: Path) -> None:
    verbs = "[LazyVerb('mine', 'Say that it runs.', Mine)]"
    (tmp_path / "mine.py").write_text(f"{VERB}EXTENSION = Extension(verbs={verbs})")
    runs, listed, typo = answers(
        tmp_path, *(("--extension", "mine.py", word) for word in ("mine", "--help", "mime"))
    )
    assert runs == (OK, "it runs\n")
    assert re.search(r"mine +Say that it runs\.", listed[1])
    assert (typo[0], "did you mean 'mine'?" in typo[1]) == (USAGE, True)


def test_measurement_is_compared_and_shown_without_its_extension(
    folder: Path, tmp_path: Path
) -> None:
    results = str(tmp_path / "results")
    options = f"--measure-instead latency --rounds 2 --results {results}"
    words = ("measure", "clip-tiny", "catlip-tiny", *SMALL, *shlex.split(options))
    returned, text = answer(folder, "--extension", "latency.py", *words)
    assert returned == OK, text
    assert re.search(r"one image, ms +catlip-tiny\S* +2 .* inconclusive", text), text
    records = [*map(read_record, list_record_files(Path(results)))]
    names = sorted({record.experiment_name for record in records}, reverse=True)
    assert [name.partition("[")[0] for name in names] == ["clip-tiny", "catlip-tiny"]
    rows = summarize_extension_measurements(records, names)
    assert [(row.figure.name, row.experiment, len(row.rounds)) for row in rows] == [
        (figure, name, 2) for figure in ("one image", "parameters") for name in names
    ]
    assert rows[2].value == pytest.approx(0.85, rel=0.01)
    returned, text = answer(folder, *words)
    assert returned == 2
    assert "no measurement (of an extension) named 'latency'" in text


def test_record_of_an_extension_is_kept_without_it(folder: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    words = ("build-time", "--name", "clip-tiny", "--results", str(results))
    returned, text = answer(folder, "--extension", "build_time.py", *words)
    assert returned == OK, text
    assert re.search(r"clip-tiny +\d", text)
    (path,) = list_record_files(results)
    record = read_record(path)
    assert isinstance(record.measured, UnknownRecordContent)
    assert [*record.measured] == ["kind", "seconds"]
    before = path.read_bytes()
    write_record(record, path)
    assert path.read_bytes() == before
    assert answer(folder, "report", "build", str(results))[0] == OK


def test_file_imports_its_neighbours_and_its_digest_changes_with_them(
    folder: Path, tmp_path: Path
) -> None:
    code = (folder / "rotation.py").read_text()
    (tmp_path / "mine.py").write_text(f"from neighbour import TURNS\n{code}")
    digests = set()
    for turns in (2, 4):
        (tmp_path / "neighbour.py").write_text(f"TURNS = {turns}\n")
        digests.add(in_child(digest_of, tmp_path / "mine.py"))
    assert len(digests) == 2


def digest_of(path: Path) -> str:
    """Return what records of a process say that loads an extension."""
    load_features_and_extensions([str(path)])
    return LOADED_EXTENSIONS[path.stem]


def test_fields_that_a_method_declares_are_listed_and_set_by_name(folder: Path) -> None:
    door = ("--extension", "ranking.py")
    measure = (*door, "measure", "ranking-tiny", "--set")
    listed, *refused = answers(
        folder, (*door, "list", "--fields"), (*measure, "margin=-1"), (*measure, "margn=1")
    )
    assert re.search(r"margin +own +0\.2 +Difference of similarities", listed[1])
    reasons = ("--set margin=-1: Expected `float` > 0.0", "'margn'; did you mean 'margin'?")
    for (code, text), reason in zip(refused, reasons, strict=True):
        assert (code, text.count("\n")) == (USAGE, 1), text
        assert reason in text


@pytest.mark.slow
def test_record_names_the_extension_and_is_shown_with_the_title_of_its_method_without_it(
    folder: Path, tmp_path: Path
) -> None:
    results = str(tmp_path / "results")
    words = ("measure", "clip-tiny", "ranking-tiny", "--rounds", "1", *SMALL, "--results", results)
    returned, text = answer(folder, "--extension", "ranking.py", *words)
    assert returned == OK, text
    speeds = records_of(results)
    assert [getattr(record.method, "title", "") for record in speeds] == ["", "VSE++, smooth"]
    assert all(
        record.circumstances.extensions["ranking"].startswith("no version, sha256 ")
        for record in speeds
    )
    returned, text = answer(folder, *words)
    assert (returned, "no experiment named 'ranking-tiny'" in text) == (2, True)
    returned, text = answer(folder, "report", "build", results)
    assert returned == OK, text
    page = (Path(results) / "index.html").read_text(encoding="utf-8")
    for shown in ("extension ranking", "VSE++, smooth", "softplus of how much the hardest caption"):
        assert shown in page
    changed = tmp_path / "ranking.py"
    changed.write_text((folder / "ranking.py").read_text() + "\n# changed\n")
    returned, text = answer(folder, "--extension", str(changed), *words, "--resume")
    assert returned == USAGE
    assert "was begun with other extensions, or other source of them" in text


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kept records of the speeds and trainings of two methods."""
    folder = tmp_path_factory.mktemp("records")
    for kind in ("speed", "training"):
        for method in ("clip", "catlip"):
            for path in (ROOT / "tests" / "records").glob(f"*.{kind}.{method}-tiny.*"):
                shutil.copy(path, folder)
    return folder


FAILING = """from bench.interfaces.extensions import Extension
from bench.interfaces.sections import BlockGroup, PageSection
def failing(page):
    raise RuntimeError("<b>no such\\nfigure</b>")
EXTENSION = Extension(sections=[
    PageSection("absent", "Absent", "Absent", lambda page: None),
    PageSection("broken", "Broken", "Broken", BUILD),
])
"""


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        ("failing", "RuntimeError: <b>no such figure</b>"),
        (
            'lambda page: [BlockGroup(["no block"])]',
            "TypeError: build must return blocks of bench.interfaces.sections, got 'no block'",
        ),
    ],
)
def test_section_of_an_extension_that_fails_is_named(
    folder: Path, records: Path, tmp_path: Path, build: str, reason: str
) -> None:
    source = tmp_path / "mine.py"
    source.write_text(FAILING.replace("BUILD", build))
    words = ("--extension", str(source), "report", "build", str(records))
    returned, text = answer(folder, *words, "--out", str(tmp_path / "page.html"))
    assert returned == USAGE
    assert f"error: section broken of --extension {source} failed: {reason}" in text.splitlines()


def test_section_of_an_extension_has_a_table_and_a_csv(
    folder: Path, records: Path, tmp_path: Path
) -> None:
    words = ("--extension", "warmup.py", "report", "build", str(records))
    returned, _ = answer(folder, *words, "--out", str(tmp_path / "page.html"))
    assert returned == OK
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = Document(page)
    seconds = {
        record.experiment.name: record.measured.warmup_seconds
        for record in records_of(records)
        if record.experiment
    }
    table = shown.tables["Warm-up of each experiment"]
    assert table[0] == ["experiment", "warm-up|s, median of runs", "runs"]
    assert {row[1] for row in table[1:]} == {format_rate(value) for value in seconds.values()}
    assert '<a href="#warmup">Warm-up</a>' in page
    content = re.search(r'warmup\.csv\.bz2" href="data:[^,]*,([^"]*)"', page)
    assert content is not None
    rows = list(csv.DictReader(bz2.decompress(base64.b64decode(content[1])).decode().splitlines()))
    assert {float(row["warm-up"]) for row in rows} == {*seconds.values()}


def write_zipped_pairs(folder: Path, images: int = 40) -> Path:
    """Images with captions of two nouns, one image that cannot be decoded, and a caption without an image."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "pairs.zip", "w") as archive:
        for number in range(images):
            archive.writestr(
                f"{number}.jpg", b"no JPEG" if number == 1 else encode_image(make_image(number))
            )
            archive.writestr(f"{number}.txt", CAPTIONS[number % len(CAPTIONS)])
        archive.writestr("lost.txt", "a dog")
    return folder


def train_with_a_stop(source: Path, data: Path, folder: Path) -> list[Training]:
    """Return a training without loader workers, and one that was stopped and went on with loader workers."""
    load_features_and_extensions([str(source)])
    experiment = small("catlip", data=str(data), images_seen=128)

    def trained(out: str, stop: StopRequest, checkpoint: str = "", workers: int = 0) -> Training:
        config = CheckpointConfig(
            folder=str(folder / out), interval_minutes=1e6, resume_from=checkpoint
        )
        manager = CheckpointManager(config, "20260101T000000-train", stop)
        with_workers = change(experiment, workers=workers)
        return train_in_process(with_workers, folder, manager)

    whole = trained("whole", StopRequest())
    with patch("bench.train.loop.CHECK_INTERVAL", 1), pytest.raises(SystemExit):
        trained("stopped", StopsLater())
    checkpoint, saved = find_latest_valid_checkpoint(folder / "stopped")
    assert 0 < saved.steps_taken < 128 // experiment.training.batch_size
    return [whole, trained("stopped", StopRequest(), str(checkpoint), workers=2)]


@pytest.mark.slow
def test_source_of_an_extension_trains_alike_with_workers_and_after_a_stop(
    folder: Path, tmp_path: Path
) -> None:
    data = write_zipped_pairs(tmp_path / "data")
    whole, resumed = in_child(train_with_a_stop, folder / "zipped_pairs.py", data, tmp_path)
    assert resumed.trunk_losses == whole.trunk_losses
    assert resumed.cooldown_losses == whole.cooldown_losses
    for training in (whole, resumed):
        assert set(training.skipped) == {"no image", "not JPEG, PNG, WEBP, GIF"}


@pytest.mark.slow
def test_task_and_protocol_of_an_extension_are_in_tables_and_on_the_page(
    folder: Path, tmp_path: Path
) -> None:
    door, results = ("--extension", "stripes.py"), str(tmp_path / "results")
    options = f"--images-seen 64 --set batch_size=16 --no-score --out {results}"
    returned, text = answer(folder, "train", "clip-tiny", *shlex.split(options))
    assert returned == OK, text
    options = f"--task stripes --protocol nearest-mean --results {results}"
    returned, text = answer(folder, *door, "transfer", "clip-tiny", *shlex.split(options))
    assert returned == OK, text
    assert "Transfer: nearest mean" in text
    scores = [score for one in records_of(results, TransferScores) for score in one.measured.scores]
    found = {score for score in scores if score.task == "stripes"}
    assert {score.protocol for score in found} == {"nearest mean"}
    assert {score.majority for score in found} == {0.25}
    assert len(found) == 4  # the tower, its random init, pixels and HOG
    returned, text = answer(folder, "report", "build", results)
    assert returned == OK, text
    page = (Path(results) / "index.html").read_text(encoding="utf-8")
    assert "stripes" in page
    assert "nearest mean" in page


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("rotation", marks=pytest.mark.exhaustive),
        pytest.param("ranking", marks=pytest.mark.exhaustive),
        pytest.param("simclr", marks=pytest.mark.exhaustive),
    ],
)
def test_method_of_an_extension_is_used_as_one_of_ours(
    name: str, folder: Path, tmp_path: Path
) -> None:
    door, out = ("--extension", f"{name}.py"), tmp_path / "trained"
    experiment = f"{name}-tiny"
    pair = (experiment, "clip-tiny") if name == "rotation" else ("catlip-tiny", experiment)
    small = shlex.join(SMALL)
    for command in (
        f"train {experiment} --images-seen 1024 --task 'unseen subgroup' --out {out}",
        f"transfer {experiment} --task 'unseen subgroup' --protocol k-nn --results {out}",
        f"explain {pair[0]} --baseline {pair[1]} --rounds 2 {small} --results {tmp_path / 'explained'}",
        f"plan {experiment} --assumed-gpu h100 --gpus 8 --assumed-gpu-mfu 0.3",
        f"export {experiment} --results {out} --out {tmp_path / 'exported'}",
    ):
        start = answer if command.startswith(("plan", "export")) else run
        if command.startswith("explain") and name == "simclr":
            continue  # it has no role in a ladder
        returned, text = start(folder, *door, *shlex.split(command))
        assert returned in (OK, INCONCLUSIVE), text
    torchrun = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
    launch = ("--launch", torchrun)
    results = str(tmp_path / "ranks")
    settings = ("--set", "margin=0.5") if name == "ranking" else ()
    words = (*door, "measure", "clip-tiny", experiment, "--rounds", "1", *SMALL, *settings)
    words += ("--results", results)
    returned, text = run(folder, *words, *launch)
    assert returned == OK, text
    records = records_of(results)
    assert {record.circumstances.processes for record in records} == {2}
    found = {
        record.experiment.method: record.experiment.own for record in records if record.experiment
    }
    assert found == {"clip": {}, name: {"margin": 0.5} if settings else {}}


@pytest.mark.slow
def test_installed_package_adds_its_methods_by_an_entry_point(folder: Path, tmp_path: Path) -> None:
    package, installed = tmp_path / "of_others", tmp_path / "of_others-1.2.dist-info"
    package.mkdir()
    installed.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(folder / "rotation.py", package)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: of-others\nVersion: 1.2\n")
    (installed / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\nrotation = of_others.rotation\n"
    )
    program = ("-c", LOADS)
    returned, text = run(tmp_path, "rotation-tiny", program=program, PYTHONPATH=str(tmp_path))
    assert returned == OK, text
    assert text.startswith("1.2,")
