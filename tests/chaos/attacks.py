"""Hostile inputs: each is written into a folder and handed to what reads its like."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.console.tables import print_tables
from bench.labels.vocabulary import read_vocabulary
from bench.tables.tables import Table
from bench.train.checkpoints import find_latest_valid_checkpoint
from tests.chaos.case import EXECUTED
from tests.chaos.made import make_samples
from tests.chaos.payloads import (
    HOSTILE_NAME,
    Attack,
    pickle_payload,
    require_refusal,
    run_command_line,
    write_file,
)
from tests.chaos.short import short_experiment, train_in_process
from tests.data.shards import encode_image, make_image, write_shard


def _label(path: str | Path, folder: Path) -> object:
    out = str(folder / "out" / "v.json")
    return run_command_line("label", str(path), "--out", out, "--workers", "1")


def pickles() -> dict[str, Attack]:
    """Return pickles wherever a file is read."""

    def as_checkpoint(folder: Path) -> object:
        step = folder / "checkpoints" / "step-00000005"
        for name in ("state.safetensors", "state.json"):
            write_file(step / name, pickle_payload(folder))
        return find_latest_valid_checkpoint(step.parent)

    return {
        "a checkpoint": as_checkpoint,
        "labels": lambda folder: _label(
            write_file(folder / "c.parquet", pickle_payload(folder)), folder
        ),
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tars() -> dict[str, Attack]:
    """Return tars whose members' names or kinds lead elsewhere, or that are pickles."""

    def pickled(suffix: str) -> Attack:
        def attack(folder: Path) -> object:
            files = make_samples(0, 4) | {f"00001.{suffix}": pickle_payload(folder)}
            write_shard(folder / "data" / "0.tar", files)
            return train_in_process(
                short_experiment("catlip", data=str(folder / "data")), _made(folder / "out")
            )

        return attack

    def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Attack:
        def attack(folder: Path) -> object:
            path = folder / "data" / "0.tar"
            path.parent.mkdir()
            with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
                for each, content in (
                    make_samples(0, 4)
                    | {name: encode_image(make_image(9)), f"{name}.txt": b"a dog"}
                ).items():
                    info = tarfile.TarInfo(each)
                    info.size = 0 if each == name and kind != tarfile.REGTYPE else len(content)
                    if each == name:
                        info.type, info.linkname = kind, link.format(folder=folder)
                    tar.addfile(info, io.BytesIO(content))
            _label(path, folder)
            return train_in_process(short_experiment("clip", data=str(path)), _made(folder / "out"))

        return attack

    return {
        **{f"a pickle called .{suffix}": pickled(suffix) for suffix in ("pkl", "jpg")},
        "a name with ../": member("../../outside.jpg"),
        "a name of 10,000 letters": member("x" * 10_000 + ".jpg"),
        "a symbolic link": member("link.jpg", tarfile.SYMTYPE, "{folder}/../outside"),
        "a device": member("device.jpg", tarfile.CHRTYPE),
    }


def specs() -> dict[str, Attack]:
    """Return names of data that are commands or addresses."""

    def named(words: str) -> Attack:
        def attack(folder: Path) -> object:
            spec = words.format(executed=folder / EXECUTED)
            for act in (
                lambda: train_in_process(
                    short_experiment("catlip", data=spec), _made(folder / "out")
                ),
                lambda: run_command_line("data", spec, "--index-folder", str(folder)),
                lambda: _label(spec, folder),
                lambda: read_vocabulary(spec),
                lambda: train_in_process(
                    short_experiment("catlip", subset=spec), _made(folder / "out")
                ),
            ):
                require_refusal(act)
            return None

        return attack

    return {
        "pipe:": named("pipe:touch {executed}"),
        "$(…)": named("$(touch {executed}).tar"),
    }


def terminal() -> dict[str, Attack]:
    """Return names and captions that a terminal would obey."""

    def shard(folder: Path) -> object:
        write_shard(folder / "data" / f"{HOSTILE_NAME}.tar", {"a.jpg": b"?", "a.txt": b"a dog"})
        run_command_line("data", str(folder / "data"), "--index-folder", str(folder))
        return run_command_line(
            "label",
            str(folder / "data"),
            "--rule",
            HOSTILE_NAME,
            "--out",
            str(folder / "out.json"),
        )

    def member(folder: Path) -> object:
        files = {
            f"{HOSTILE_NAME}.jpg": b"?",
            f"{HOSTILE_NAME}.json": json.dumps({HOSTILE_NAME: "x"}).encode(),
        }
        return _label(write_shard(folder / "0.tar", files), folder)

    table = Table.from_dicts(
        HOSTILE_NAME, [{"what": HOSTILE_NAME, HOSTILE_NAME: 1}], f"{HOSTILE_NAME}\nbelow"
    )
    return {
        "a table's title, heading and note": lambda _: print_tables(
            [table, replace(table, is_transposed=True)], None
        ),
        "an experiment": lambda _: run_command_line("measure", HOSTILE_NAME),
        "a file's name": shard,
        "a member's name": member,
    }


ATTACKS: dict[str, Callable[[], dict[str, Attack]]] = {
    "pickle": pickles,
    "tar": tars,
    "name": specs,
    "terminal": terminal,
}
