"""Faulty inputs, streams, disks and environments, each with the exit code and the words that it has to give."""

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load, save

from bench.__main__ import main
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.experiment.experiments import EXPERIMENTS
from bench.towers.head_file import save_weights
from bench.towers.provenance import TowerProvenance
from bench.train.build import build_untrained_tower
from tests.chaos.case import Case, Write, nothing
from tests.chaos.disks import limit_file_size
from tests.chaos.endless import RECORDS
from tests.chaos.made import make_samples
from tests.chaos.payloads import write_file
from tests.data.shards import write_shard

# A name with a line break, a mark that turns the direction, and a formula.
ODD = "a\nb\u202egnp.=1+1"


def command(
    words: str,
    text: str,
    write: Write = nothing,
    *,
    code: int = 2,
    environment: Mapping[str, str] | None = None,
    limits: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Case:
    """Return a command line of words, of which FOLDER stands for the folder."""

    def act(folder: Path) -> int:
        with patch.dict(os.environ, environment or {}), limits(), fresh_ranks():
            return main([word.replace("FOLDER", str(folder)) for word in words.split()])

    return Case(write, act, code, text)


@contextmanager
def fresh_ranks() -> Iterator[None]:
    """Have the variables of torchrun read again, in the block and behind it."""
    read_torchrun_ranks.cache_clear()
    try:
        yield
    finally:
        read_torchrun_ranks.cache_clear()


def content(name: str, written: bytes) -> Write:
    return lambda folder: write_file(folder / name, written)


# Towers


@cache
def tower() -> bytes:
    """Return a tower."""
    experiment = EXPERIMENTS["catlip-tiny"]
    facts = TowerProvenance(experiment=experiment, images=8, budgets=()).to_metadata()
    with TemporaryDirectory() as folder:
        save_weights(
            build_untrained_tower(experiment).state_dict(),
            Path(folder) / "tower.safetensors",
            facts,
        )
        return (Path(folder) / "tower.safetensors").read_bytes()


def towers() -> dict[str, Case]:
    """Return tower files whose tensors or headers are wrong."""

    def header(change: Callable[[dict[str, Any]], object]) -> Write:
        def write(folder: Path) -> None:
            (size,) = struct.unpack("<Q", tower()[:8])
            fields = json.loads(tower()[8 : 8 + size])
            changed = change(fields)
            text = json.dumps(fields if changed is None else changed).encode()
            write_file(
                folder / "t.safetensors", struct.pack("<Q", len(text)) + text + tower()[8 + size :]
            )

        return write

    def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Write:
        def write(folder: Path) -> None:
            (size,) = struct.unpack("<Q", tower()[:8])
            metadata, found = json.loads(tower()[8 : 8 + size])["__metadata__"], load(tower())
            change(found)
            write_file(folder / "t.safetensors", save(found, metadata))

        return write

    def made(**fields: object) -> Write:
        def change(header: dict[str, Any]) -> None:
            document = json.loads(header["__metadata__"]["made"])
            document["experiment"] |= fields
            header["__metadata__"]["made"] = json.dumps(document)

        return header(change)

    def first(found: Mapping[str, object]) -> str:
        return next(key for key in found if key != "__metadata__")

    def exported(write: Write, text: str) -> Case:
        return command("export FOLDER/t.safetensors --out FOLDER/out", text, write)

    return {
        "a weight too many": exported(
            tensors(lambda found: found.update({f"trunk.{ODD}": torch.zeros(2)})), r"a b\\u202e"
        ),
        "a weight too few": exported(
            tensors(lambda found: found.pop(first(found))), "lack|[Mm]iss"
        ),
        "sides whose product overflows": exported(
            header(lambda h: h[first(h)].update(shape=[2**33, 2**33])), "t.safetensors"
        ),
        "metadata that are no JSON": exported(
            header(lambda h: h["__metadata__"].update(made="{")), "t.safetensors"
        ),
        "an image size of 2**63": exported(made(image_size=2**63), "image_size"),
        "an architecture that is a path": exported(made(tower="../../etc/passwd"), "tower"),
    }


# Captions


def captions() -> dict[str, Case]:
    """Return files of captions with odd encodings, counts and names."""

    def labelled(name: str, written: bytes, text: str, code: int = 0, more: str = "") -> Case:
        words = f"label FOLDER/{name} --workers 1 --out FOLDER/v.json {more}"
        return command(words, text, content(name, written), code=code)

    def parquet(table: pa.Table, **options: object) -> bytes:
        file = BytesIO()
        pq.write_table(table, file, **options)
        return file.getvalue()

    def shard(first: int) -> bytes:
        with TemporaryDirectory() as folder:
            return write_shard(Path(folder) / "a.tar", make_samples(first, 2)).read_bytes()

    plain = parquet(pa.table({"caption": ["a dog"] * 3}))
    text = b"caption\na dog\na cat\n"
    one, other = map(shard, (0, 2))

    def footer(length: int) -> bytes:
        return plain[:-8] + struct.pack("<I", length) + b"PAR1"

    return {
        "a csv in Latin-1": labelled(
            "a.csv", "caption\na dog und ein Hünd\n".encode("latin-1"), "after a repair"
        ),
        "a parquet whose footer has 2**31 - 1 bytes": labelled(
            "a.parquet", footer(2**31 - 1), "a.parquet", 2
        ),
        "a parquet without a row": labelled(
            "a.parquet",
            parquet(pa.table({"caption": pa.array([], pa.string())})),
            "no sample has a caption",
            2,
        ),
        "two tars joined": labelled("a.tar", one + other, "after its end mark", 2),
        "captions into a full disk": Case(
            content("a.csv", text),
            command(
                "label FOLDER/a.csv --workers 1 --out FOLDER/v.json",
                "",
                limits=partial(limit_file_size, 64),
            ).act,
            2,
            "File too large",
        ),
    }


# Numbers of command lines


def _train_images(value: str, folder: Path) -> int:
    return main(["train", "clip-tiny", f"--images-seen={value}", "--out", str(folder / "out")])


def numbers() -> dict[str, Case]:
    """Return numbers at the edge of their type."""
    images = ("0", "-1", "1e3", "\u0663k", "1_000", "99999999999999999999B", "")
    found = {
        f"--images-seen={value!r}": Case(nothing, partial(_train_images, value), 2, "--images-seen")
        for value in images
    }
    for words in (
        "plan clip-vit-b16 --assumed-gpu h100 --assumed-gpu-mfu=1.0000000001",
        "label --try-rule-on dog --max-labels=0",
        "regress HEAD --rounds=0",
        "history 0",
        "train clip-tiny --checkpoint-minutes=-1 --out FOLDER/out",
        "--minutes=nan",
        "reference open-clip --rounds=0",
    ):
        option = next((w.split("=")[0] for w in words.split() if "=" in w), ".")
        found[words] = command(words, option)
    return found


# Records, pages and exports


def records() -> dict[str, Case]:
    """Return records and documents that are wrong at the edges of their types."""
    path = min(RECORDS.glob("*.speed.clip-tiny*.json"))
    text = path.read_text()
    document = json.loads(text)

    def changed(part: str, **fields: object) -> bytes:
        return json.dumps(document | {part: document[part] | fields}).encode()

    def page(
        written: bytes,
        words: str,
        code: int = 2,
        verb: str = "build FOLDER --out FOLDER/page.html",
        **options: Any,
    ) -> Case:
        return command(f"report {verb}", words, content(path.name, written), code=code, **options)

    def onto_pipe(verb: str) -> Case:
        def write(folder: Path) -> None:
            write_file(folder / path.name, text.encode())
            os.mkfifo(folder / "pipe")

        return command(f"report {verb} --out FOLDER/pipe", "pipe: not a regular file", write)

    return {
        "windows of 1e400": page(
            text.replace('"window_seconds"', '"window_seconds":[1e400],"x"').encode(), path.name
        ),
        "a comparison above the folder": page(
            json.dumps(document | {"comparison": "../../x"}).encode(), ".", 0
        ),
        "an experiment that is a formula": page(
            changed("experiment", name="=1+1"),
            ".",
            0,
            "export FOLDER --out FOLDER/a.csv",
        ),
        "a folder that is not there": command("report build FOLDER/none", "none"),
        "a page where a pipe is": onto_pipe("build FOLDER"),
        "a claim of no name": command("claim a\u202eb", r"\\u202e"),
        "a page onto a full disk": page(
            text.encode(),
            "File too large",
            limits=partial(limit_file_size, 64),
        ),
        "tables onto a full device": command(
            "plan clip-vit-b16 --assumed-gpu h100 --json /dev/full",
            "/dev/full: not a regular file",
        ),
    }


# Environment variables


def environments() -> dict[str, Case]:
    """Return environment variables of torchrun, SLURM, the shell and this project that are wrong."""

    def with_variables(
        text: str, *, words: str = "label --try-rule-on dog", code: int = 2, **variables: str
    ) -> Case:
        return command(words, text, code=code, environment=variables)

    return {
        "a world without ranks": with_variables("RANK", words="measure clip-tiny", WORLD_SIZE="2"),
        "a terminal without columns": with_variables("dog", code=0, COLUMNS="0"),
    }


FAULTS: dict[str, Callable[[], dict[str, Case]]] = {
    "tower": towers,
    "captions": captions,
    "number": numbers,
    "record": records,
    "environment": environments,
}
