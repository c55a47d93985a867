"""Names in another encoding are read where no document has to hold them, and are refused by name elsewhere."""

import os
import tarfile
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.console.console import describe_error, require_utf8
from bench.transfer.tasks.file_tasks import folder_task
from tests.data.shards import encode_image, make_image, webdataset_members, write_shard
from tests.data.test_shard_stream import stream

LATIN1 = os.fsdecode(b"caf\xe9")


def require_one_line(text: str) -> None:
    """The last line names it, escaped."""
    line = text.splitlines()[-1]
    assert "is not UTF-8, rename the file or folder" in line
    assert r"caf\udce9" in line
    assert line.isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "catlip-tiny", "--data", LATIN1],
        ["report", "build", LATIN1],
        [LATIN1],
    ],
)
def test_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    require_one_line(capsys.readouterr().err)


def test_a_results_folder_below_such_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LATIN1).mkdir()
    monkeypatch.chdir(tmp_path / LATIN1)
    assert main(["measure", "catlip-tiny"]) == 2
    require_one_line(capsys.readouterr().err)
    assert not (tmp_path / LATIN1 / "results").exists()


def test_shards_are_read_but_not_listed(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_shard(data / f"{LATIN1}.tar", webdataset_members(0, 20))
    assert stream(data, results, "catlip").batch(0).images.shape[0] == 16
    assert main(["doctor", "--shards", str(data), "--loading-seconds", "0"]) == 2
    require_one_line(capsys.readouterr().err)
    assert [path.suffix for path in data.iterdir()] == [".tar"]


def test_member_names_are_keys_that_every_document_can_hold(tmp_path: Path, results: Path) -> None:
    members = {
        f"{LATIN1}{number}.{s}": c
        for number in range(20)
        for s, c in (("jpg", encode_image(make_image(1))), ("txt", b"a"))
    }
    path = write_shard(tmp_path / "s.tar", members, tarfile.USTAR_FORMAT)
    require_utf8(*stream(path, results, "catlip").keys(0))


def test_class_folders_are_named(tmp_path: Path) -> None:
    for name in (LATIN1, "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(60):
            (tmp_path / "set" / name / f"{LATIN1}{number}.jpg").write_bytes(
                encode_image(make_image(number))
            )
    assert folder_task(tmp_path / "set", tmp_path).classes == ("b", LATIN1)


def test_an_error_is_one_line() -> None:
    assert describe_error(ValueError("first\n  second\x1b")) == r"first second\x1b"
