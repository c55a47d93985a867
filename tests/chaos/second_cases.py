"""Faulty inputs, streams, disks and environments, each with the exit code and the words that it has to give."""

import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
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
from torch.distributed import HashStore  # type: ignore[attr-defined]

from bench.__main__ import main
from bench.console.console import StopRequest
from bench.environment.circumstances import CHECKOUT
from bench.environment.rank_info import RankInfo, torchrun_env
from bench.orchestration.torchrun import Coordinator
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import CheckpointConfig, exclusive_lock, latest_valid, list_checkpoints
from tests.chaos.full_disk import limit_file_size
from tests.chaos.limit_cases import RECORDS
from tests.chaos.made import make_samples, write_shard, write_shards
from tests.chaos.payloads import write_file
from tests.chaos.short import short_experiment, train_in_process

MADE = "made"  # the folder of what a case makes itself, which is no user's
ODD = "a\nb\u202egnp.=1+1"  # a name with a line break, a mark that turns the direction, and a formula
Write = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Case:
    """What a user has in a folder, what is done there, the exit code, and a pattern of what is then said."""

    write: Write
    act: Callable[[Path], int]
    code: int
    text: str


def nothing(_: Path) -> None:
    """Write nothing."""


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
    torchrun_env.cache_clear()
    try:
        yield
    finally:
        torchrun_env.cache_clear()


def content(name: str, written: bytes) -> Write:
    return lambda folder: write_file(folder / name, written)


# Entries beside checkpoints


def _train(folder: Path, *, resume: bool = False) -> int:
    """Train and save four times, in the folder `checkpoints`; return 0."""
    torch.set_num_threads(1)  # steps of four images, beside whatever else runs
    write_shards(folder / MADE / "data", listed=True)
    checkpoints = folder / "checkpoints"
    config = CheckpointConfig(
        folder=str(checkpoints),
        interval_minutes=1e-9,
        resume_from=str(latest_valid(checkpoints)[0]) if resume else "",
    )
    with exclusive_lock(checkpoints), patch("bench.train.loop.CHECK_INTERVAL", 2):
        experiment = short_experiment("catlip", data=str(folder / MADE / "data"), images=32)
        manager = CheckpointManager(config, "disk", {"all": experiment.training.images}, StopRequest())
        train_in_process(experiment, folder / MADE, manager)
    print(len(list_checkpoints(checkpoints)), "checkpoints")
    return 0


def strays() -> dict[str, Case]:
    """Return entries of a user's beside checkpoints."""

    def among_checkpoints(write: Write, text: str = "2 checkpoints", code: int = 0) -> Case:
        return Case(lambda folder: write(folder / "checkpoints"), _train, code, text)

    def copied(name: Callable[[str], str], more: str = "", count: int = 2) -> Case:
        """A checkpoint under another name, without the others; with a further file."""

        def write(folder: Path) -> None:
            _train(folder)
            newest, *others = list_checkpoints(folder / "checkpoints")
            newest.rename(newest.with_name(name(newest.name)))
            for path in others:
                shutil.rmtree(path)
            if more:
                write_file(newest / more, b"notes")

        return Case(write, _train, 0, f"{count} checkpoints")

    def linked(target: str) -> Write:
        def write(checkpoints: Path) -> None:
            checkpoints.mkdir()
            (checkpoints / "step-00000004").symlink_to(target)

        return write

    def pipe(checkpoints: Path) -> None:
        checkpoints.mkdir()
        os.mkfifo(checkpoints / "step-00000004")

    def elsewhere(checkpoints: Path) -> None:
        (checkpoints.parent / "disk" / "step-00000004.mine").mkdir(parents=True)
        checkpoints.symlink_to("disk")

    return {
        "a file with the name of a checkpoint": among_checkpoints(
            lambda path: write_file(path / "step-00000004", b"mine")
        ),
        "a link to nothing with the name of a checkpoint": among_checkpoints(linked("nowhere")),
        "a link to itself with the name of a checkpoint": among_checkpoints(linked("step-00000004")),
        "a pipe with the name of a checkpoint": among_checkpoints(pipe),
        "an empty folder with the name of a checkpoint": among_checkpoints(
            lambda path: (path / "step-00000002").mkdir(parents=True), "checkpoints"
        ),
        "a copy in Arabic digits": copied(
            lambda name: name.translate({48 + digit: 0x660 + digit for digit in range(10)})
        ),
        "a copy with a line break": copied(lambda name: f"{name}\n"),
        "a copy of a file manager's": copied(lambda name: f"{name} (copy)"),
        "a copy in capitals": copied(str.upper),
        "a copy that ends in .part": copied(lambda name: f".{name}.part"),
        "a checkpoint with a user's notes in it": copied(str, "notes.txt", 3),
        "a checkpoint with a user's folder in it": copied(str, "plots/a.png", 3),
        "checkpoints on another disk, by a link": among_checkpoints(elsewhere),
        "a folder for the lock": among_checkpoints(lambda path: (path / ".lock").mkdir(parents=True), ".lock", 2),
        "a file for the folder": among_checkpoints(lambda path: write_file(path, b"mine"), "checkpoints", 2),
    }


# Towers


@cache
def tower() -> bytes:
    """Return a tower of a training of two steps."""
    with TemporaryDirectory() as folder:
        train_in_process(short_experiment("catlip"), Path(folder))
        return (Path(folder) / "tower.safetensors").read_bytes()


def towers() -> dict[str, Case]:
    """Return tower files whose tensors or headers are wrong."""

    def header(change: Callable[[dict[str, Any]], object]) -> Write:
        def write(folder: Path) -> None:
            (size,) = struct.unpack("<Q", tower()[:8])
            fields = json.loads(tower()[8 : 8 + size])
            changed = change(fields)
            text = json.dumps(fields if changed is None else changed).encode()
            write_file(folder / "t.safetensors", struct.pack("<Q", len(text)) + text + tower()[8 + size :])

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

    def cast(kind: torch.dtype) -> Write:
        return tensors(lambda found: found.update({key: value.to(kind) for key, value in found.items()}))

    return {
        "one infinite value": exported(
            tensors(lambda found: next(iter(found.values())).view(-1)[:1].fill_(-torch.inf)), "not finite"
        ),
        "complex weights": exported(cast(torch.complex64), "another type"),
        "weights of 8 bits": exported(cast(torch.uint8), "another type"),
        "a weight without values": exported(
            tensors(lambda found: found.update({"trunk.class_embedding": torch.zeros(0)})), "t.safetensors"
        ),
        "a first weight without dimensions": exported(
            tensors(lambda found: found.update({"trunk.conv1.weight": torch.zeros(())})), "t.safetensors"
        ),
        "a weight too many": exported(
            tensors(lambda found: found.update({f"trunk.{ODD}": torch.zeros(2)})), r"a b\\u202e"
        ),
        "a weight too few": exported(tensors(lambda found: found.pop(first(found))), "lack|miss"),
        "an unknown type": exported(header(lambda h: h[first(h)].update(dtype="F7")), "t.safetensors"),
        "a negative side": exported(header(lambda h: h[first(h)].update(shape=[-1])), "t.safetensors"),
        "sides whose product overflows": exported(
            header(lambda h: h[first(h)].update(shape=[2**33, 2**33])), "t.safetensors"
        ),
        "offsets beyond the end": exported(
            header(lambda h: h[first(h)].update(data_offsets=[2**40, 2**40 + 4])), "t.safetensors"
        ),
        "offsets that go backwards": exported(
            header(lambda h: h[first(h)].update(data_offsets=[8, 4])), "t.safetensors"
        ),
        "a header that is a list": exported(header(lambda h: [h]), "t.safetensors"),
        "metadata that are no JSON": exported(header(lambda h: h["__metadata__"].update(made="{")), "t.safetensors"),
        "metadata without an experiment": exported(
            header(lambda h: h["__metadata__"].update(made="{}")), "t.safetensors"
        ),
        "a name with a line break": command(
            "export FOLDER/t.safetensors --out FOLDER/out", "written", made(name=ODD), code=0
        ),
        "an image size of 0": exported(made(image_size=0), "image_size"),
        "an image size of 2**63": exported(made(image_size=2**63), "image_size"),
        "an architecture that is a path": exported(made(tower="../../etc/passwd"), "tower"),
        "no name of a method": exported(made(method=""), "method"),
        "a file that ends in its header": exported(
            lambda folder: write_file(folder / "t.safetensors", tower()[:300]), "t.safetensors"
        ),
        "a name with a line break, of the file": command(
            "export FOLDER/a\u202eb.safetensors --out FOLDER/out", r"\\u202e", content("a\u202eb.safetensors", b"{}")
        ),
    }


# Captions


def captions() -> dict[str, Case]:
    """Return files of captions with odd encodings, counts and names."""

    def labelled(name: str, written: bytes, text: str, code: int = 0, more: str = "") -> Case:
        words = f"label FOLDER/{name} --vocabulary pack-synsets --workers 1 --out FOLDER/out {more}"
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
        "a csv with a byte order mark": labelled("a.csv", b"\xef\xbb\xbf" + text, "\\b2\\b"),
        "a csv in UTF-16": labelled("a.csv", text.decode().encode("utf-16"), "UTF-8|utf-8", 2),
        "a csv in Latin-1": labelled("a.csv", "caption\nein Hünd\n".encode("latin-1"), "after a repair"),
        "a csv with NULs": labelled("a.csv", b"caption\na\0dog\na cat\n", "\\b2\\b"),
        "a csv that ends lines with CR alone": labelled("a.csv", text.replace(b"\n", b"\r"), "a.csv", 2),
        "a csv with fewer cells in a row": labelled(
            "a.csv", b"key,caption\nx,a dog\ny\n", "not as many values as columns    1"
        ),
        "a csv with more cells in a row": labelled(
            "a.csv", b"caption\na dog, and a cat\n", "not as many values as columns    1"
        ),
        "a csv of a heading alone": labelled("a.csv", b"caption\n", "\\b0\\b"),
        "half a csv.gz": labelled("a.csv.gz", gzip.compress(text * 1000)[:-20], "a.csv.gz", 2),
        "a csv.gz with zeros behind it": labelled("a.csv.gz", gzip.compress(text) + bytes(100), "\\b2\\b"),
        "two gzips joined": labelled("a.txt.gz", gzip.compress(b"a dog\n") + gzip.compress(b"a cat\n"), "\\b2\\b"),
        "a gzip with text behind it": labelled("a.txt.gz", gzip.compress(b"a dog\n") + b"a cat\n", "a.txt.gz", 2),
        "a jsonl with half a surrogate pair": labelled("a.jsonl", b'{"caption":"a \\ud83d dog"}\n', "after a repair"),
        "a jsonl of numbers": labelled("a.jsonl", b'{"caption":1e400}\n', "caption holds a number"),
        "a jsonl whose caption changes its name": labelled(
            "a.jsonl", b'{"caption":"a dog"}\n{"Caption":"a cat"}\n', "no caption +1"
        ),
        "a jsonl that is one list": labelled("a.jsonl", b'[{"caption":"a dog"},{"caption":"a cat"}]', "a.jsonl", 2),
        "a parquet of two magic words": labelled("a.parquet", b"PAR1PAR1", "a.parquet", 2),
        "an encrypted parquet": labelled("a.parquet", plain[:-4] + b"PARE", "a.parquet", 2),
        "a parquet whose footer has 2**31 - 1 bytes": labelled("a.parquet", footer(2**31 - 1), "a.parquet", 2),
        "a parquet whose footer has no bytes": labelled("a.parquet", footer(0), "a.parquet", 2),
        "a parquet of numbers": labelled("a.parquet", parquet(pa.table({"caption": [1, 2]})), "a.parquet", 2),
        "a parquet of bytes that are no UTF-8": labelled(
            "a.parquet", parquet(pa.table({"caption": [b"\xff\xfe"]})), "after a repair"
        ),
        "a parquet without a row": labelled(
            "a.parquet", parquet(pa.table({"caption": pa.array([], pa.string())})), "\\b0\\b"
        ),
        "two tars joined": labelled("a.tar", one + other, "after its end mark", 2),
        "a tar whose checksum is wrong in the middle": labelled(
            "a.tar", one[:1024].replace(b"ustar", b"ustaR") + one[1024:], "a.tar", 2
        ),
        "half a tar": labelled("a.tar", one[:1500], "a.tar", 2),
        "a name with a mark of direction": labelled("a\u202eb.csv", text, "\\b2\\b"),
        "a column with a mark of direction": labelled("a.csv", text, r"\\u202e", 2, "--column a\u202eb"),
        "a share of none": labelled("a.csv", text, "--shards", 2, "--shards 0/0"),
        "a share in Arabic digits": labelled("a.csv", text, "--shards", 2, "--shards \u0661/\u0662"),
        "a negative share": labelled("a.csv", text, "--shards", 2, "--shards -1/2"),
        "captions into a full disk": Case(
            content("a.csv", text),
            command(
                "label FOLDER/a.csv --vocabulary pack-synsets --workers 1 --out FOLDER/out",
                "",
                limits=partial(limit_file_size, 64),
            ).act,
            2,
            "File too large",
        ),
    }


# Numbers of command lines


def _train_images(value: str, folder: Path) -> int:
    return main(["train", "clip-tiny", f"--images={value}", "--out", str(folder / "out")])


def numbers() -> dict[str, Case]:
    """Return numbers at the edge of their type, on the command line and in settings."""
    settings = {
        "batch_size": ("0x10", "1_0", "0", "-1", "9223372036854775808", "true", "NaN", "1.5", "\u0663"),
        "seed": ("-1", "18446744073709551616"),
        "learning_rate": ("nan", "Infinity", "-1e-3", "1e400"),
        "image_size": ("63", "-64", "4097", "[64]"),
        "subset": ("random:0", "random:1e3", "random:\u0663", "random:", "random:99999999999999999999", "first:3"),
        "warmup_steps": ("-1", "1e308"),
        "windows": ("0",),
        "workers": ("-1", "1025"),
        "weight_decay": ("nan", "-1", "1e309"),
    }
    found = {
        f"{field}={value}": command(f"train clip-tiny --out FOLDER/out --set {field}={value}", field)
        for field, values in settings.items()
        for value in values
    }
    images = ("0", "-1", "1e3", "1k1", "\u0663k", "0.0001", "1_000", "99999999999999999999B", "1 ", "infinity", "")
    found |= {f"--images={value!r}": Case(nothing, partial(_train_images, value), 2, "--images") for value in images}
    for words in (
        "plan clip-vit-b16 --device h100 --batch=0",
        "plan clip-vit-b16 --device h100 --batch=-64",
        "plan clip-vit-b16 --device h100 --price=nan",
        "plan clip-vit-b16 --device h100 --price=-0.01",
        "plan clip-vit-b16 --device h100 --overlap=1.0000001",
        "plan clip-vit-b16 --device h100 --overlap=-1e-320",
        "plan clip-vit-b16 --device h100 --gpus=0",
        "plan clip-vit-b16 --device h100 --utilisation=1.0000000001",
        "plan clip-vit-b16 catlip-vit-b16 --device h100 --solve=0",
        "plan clip-vit-b16 catlip-vit-b16 --device h100 --solve=inf",
        "plan clip-vit-b16 --validate-local=0",
        "plan clip-vit-b16 --validate-local=1000000000",
        "label --explain dog --size=0",
        "regress HEAD --rounds=0",
        "history 0",
        "history -3",
        "report history --simulate --lines=0",
        "report history --simulate --lines=-1",
        "doctor --shards FOLDER --loading-seconds=nan",
        "doctor --shards FOLDER --loading-seconds=-1",
        "doctor --shards FOLDER --images-per-s=-0.0",
        "gpu --minutes=-0.0 --results FOLDER/out",
        "gpu --minutes=1e-320 --results FOLDER/out",
        "explain catlip-tiny --baseline clip-tiny --minutes=-1",
        "explain catlip-tiny --baseline clip-tiny --rounds=-2",
        "measure clip-tiny --rounds=0",
        "train clip-tiny --checkpoint-minutes=-1 --out FOLDER/out",
        "train clip-tiny --checkpoint-minutes=nan --out FOLDER/out",
        "--minutes=nan",
        "--minutes=1e400",
        "--minutes=0",
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

    def page(written: bytes, words: str, code: int = 2, verb: str = "build FOLDER --out FOLDER/page.html") -> Case:
        return command(f"report {verb}", words, content(path.name, written), code=code)

    def onto_pipe(verb: str) -> Case:
        def write(folder: Path) -> None:
            write_file(folder / path.name, text.encode())
            os.mkfifo(folder / "pipe")

        return command(f"report {verb} --out FOLDER/pipe", "pipe: not a regular file", write)

    def plan(written: bytes, words: str) -> Case:
        return command("report plan FOLDER/plan.json", words, content("plan.json", written))

    return {
        "a record with a byte order mark": page(b"\xef\xbb\xbf" + text.encode(), path.name),
        "a record in UTF-16": page(text.encode("utf-16"), path.name),
        "a record with text behind it": page(text.encode() + b"{}", path.name),
        "an empty record": page(b"", path.name),
        "a record that is null": page(b"null", path.name),
        "a record of another format": page(json.dumps(document | {"format": 2**63}).encode(), "format"),
        "a record of a negative format": page(json.dumps(document | {"format": -1}).encode(), "format"),
        "windows of no time": page(changed("measured", window_seconds=[0.0] * 8), path.name),
        "windows of negative time": page(changed("measured", window_seconds=[-1.0] * 8), path.name),
        "no windows": page(changed("measured", window_seconds=[]), path.name),
        "windows of 1e400": page(text.replace('"window_seconds"', '"window_seconds":[1e400],"x"').encode(), path.name),
        "windows of 1e-320": page(changed("measured", window_seconds=[1e-320] * 8), path.name),
        "a batch of 2**63": page(changed("experiment", batch_size=2**63), path.name),
        "a batch of 0": page(changed("experiment", batch_size=0), path.name),
        "a comparison above the folder": page(json.dumps(document | {"comparison": "../../x"}).encode(), ".", 0),
        "a comparison with a line break": page(json.dumps(document | {"comparison": ODD}).encode(), ".", 0),
        "an experiment that is a formula": page(
            changed("experiment", name="=1+1"), ".", 0, "export FOLDER --format csv --out FOLDER/a.csv"
        ),
        "a cpu that is a formula, for bencher": page(
            changed("circumstances", machine=ODD), ".", 0, "export FOLDER --format bencher --out FOLDER/a.json"
        ),
        "names that are paths, for tensorboard": page(
            changed("experiment", name="../../x"), ".", 0, "export FOLDER --format tensorboard --out FOLDER/tb"
        ),
        "two empty folders": command("report compare FOLDER FOLDER", "."),
        "one folder twice": page(text.encode(), ".", 0, "compare FOLDER FOLDER"),
        "a folder that is not there": command("report build FOLDER/none", "none"),
        "a file in place of a folder": command("report build FOLDER/a.json", "a.json", content("a.json", b"{}")),
        "a page where a folder is": page(text.encode(), "not a regular file", verb="build FOLDER --out FOLDER"),
        "an export where a folder is": page(
            text.encode(), "not a regular file", verb="export FOLDER --format csv --out FOLDER"
        ),
        "a page where a pipe is": onto_pipe("build FOLDER"),
        "an export where a pipe is": onto_pipe("export FOLDER --format csv"),
        "a comparison of no name": page(text.encode(), "comparison", verb="build FOLDER --comparison="),
        "a comparison that is a pattern": page(text.encode(), "comparison", verb="build FOLDER --comparison=*"),
        "a plan that is a list": plan(b"[]", "plan.json"),
        "a plan of NaN": plan(b'{"a":{"rows":[{"x":NaN}],"note":""}}', "plan.json"),
        "a plan of 1e400": plan(b'{"a":{"rows":[{"x":1e400}],"note":""}}', "plan.json"),
        "a plan of no tables": plan(b"{}", "plan.json"),
        "a plan whose rows are texts": plan(b'{"a":{"rows":["x"],"note":""}}', "plan.json"),
        "a claim of no name": command("claim a\u202eb", r"\\u202e"),
        "a card of an unknown kind": command("claim flip-0.50x --out FOLDER/card.txt", ".txt"),
        "a card onto a full disk": command(
            "claim flip-0.50x --out FOLDER/card.md", "File too large", limits=partial(limit_file_size, 64)
        ),
        "tables onto a full device": command(
            "plan clip-vit-b16 --device h100 --json /dev/full", "No space left on device: '/dev/full'"
        ),
        "tables into a folder that is not there": command(
            "plan clip-vit-b16 --device h100 --json FOLDER/none/a.json", "none"
        ),
        "tables into a folder": command("plan clip-vit-b16 --device h100 --json FOLDER", "Is a directory"),
        "a vocabulary of negative counts": command(
            "label --merge FOLDER/v.json --out FOLDER/w.json",
            "v.json",
            content("v.json", b'{"rule":"corenet","captions":1,"labels":[{"synset":"n1","name":"a","count":-1}]}'),
        ),
    }


# Environment variables


def environments() -> dict[str, Case]:
    """Return environment variables of torchrun, SLURM, the shell and this project that are wrong."""

    def with_variables(text: str, *, words: str = "label --explain dog", code: int = 2, **variables: str) -> Case:
        return command(words, text, code=code, environment=variables)

    rank = {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }
    return {
        "a world without ranks": with_variables("RANK", words="measure clip-tiny", WORLD_SIZE="2"),
        "a rank beyond its world": command("measure clip-tiny", "RANK", environment=rank | {"RANK": "2"}),
        "a local rank beyond its node": command(
            "measure clip-tiny", "LOCAL_RANK", environment=rank | {"LOCAL_RANK": "2"}
        ),
        "a local world larger than the world": command(
            "measure clip-tiny", "LOCAL_WORLD_SIZE", environment=rank | {"LOCAL_WORLD_SIZE": "3"}
        ),
        "a rank in Arabic digits": with_variables("RANK", RANK="\u0661"),
        "a port of 65536": with_variables("MASTER_PORT", MASTER_PORT="65536"),
        "a port of 0": with_variables("MASTER_PORT", MASTER_PORT="0"),
        "an end of 1e400": with_variables("SLURM_JOB_END_TIME", SLURM_JOB_END_TIME="1e400"),
        "an end of -1": with_variables("SLURM_JOB_END_TIME", SLURM_JOB_END_TIME="-1"),
        "a watchdog of 0": with_variables("CATLIP_BENCH_WATCHDOG_SECONDS", CATLIP_BENCH_WATCHDOG_SECONDS="0"),
        "a watchdog with a line break": with_variables("WATCHDOG", CATLIP_BENCH_WATCHDOG_SECONDS="6\u202e0\n"),
        "a terminal without columns": with_variables("dog", code=0, COLUMNS="0"),
        "a terminal of minus one column": with_variables("dog", code=0, COLUMNS="-1"),
        "a terminal whose columns are a word": with_variables("dog", code=0, COLUMNS="wide"),
        "a terminal of 10**30 columns": with_variables("dog", code=0, COLUMNS="9" * 30),
        "slots of nobody": with_variables("dog", code=0, CATLIP_BENCH_SLOTS="x"),
    }


# Streams, devices and memory of processes of their own


def processes() -> dict[str, Case]:
    """Return streams, devices and limits that a process of its own needs."""

    def shell(
        words: str, code: int, text: str, write: Write = nothing, prefix: Sequence[str] = (), **variables: str
    ) -> Case:
        def act(folder: Path) -> int:
            line = f"exec '{sys.executable}' -m bench {words}".replace("FOLDER", str(folder))
            run = [*prefix, "bash", "-c", line]
            done = subprocess.run(
                run, cwd=CHECKOUT, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=120
            )
            print(done.stdout, done.stderr)
            return done.returncode

        return Case(write, act, code, text)

    captions = content("a.csv", b"caption\na dog\na cat\n")
    label = "label FOLDER/a.csv --vocabulary pack-synsets --workers 1 --out FOLDER/out"
    return {
        "a card onto a full device": shell("claim flip-0.50x >/dev/full", 2, "No space left"),
        "labels with standard output and error closed": shell(f"{label} >&- 2>&-", 2, "", captions),
        "labels with all streams closed": shell(f"{label} <&- >&- 2>&-", 2, "", captions),
        "standard error that is full": shell("measure nothing 2>/dev/full", 2, ""),
        "labels with standard error full": shell(f"{label} 2>/dev/full", 0, "", captions),
        "a locale of ASCII": shell(label, 0, ".", captions, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    }


# Ranks


def ranks() -> dict[str, Case]:
    """Return ranks that were started otherwise than rank 0."""

    def started(first: Sequence[str], second: Sequence[str], text: str, code: int = 2) -> Case:
        def act(_: Path) -> int:
            store = HashStore()
            both = [Coordinator(RankInfo(rank, 2, rank, 2), store) for rank in range(2)]
            both[0].publish_command(first)
            both[1].publish_command(second)
            both[0].require_equal_commands()
            return 0

        return Case(nothing, act, code, text)

    train = ["train", "clip-tiny"]
    return {
        "no arguments": started(train, [], "rank 1 has other arguments"),
        "an option more": started(train, [*train, "--set", "workers=1"], "--set workers=1"),
        "the same in another order": started(
            [*train, "--yes"], ["train", "--yes", "clip-tiny"], "rank 1 has other arguments"
        ),
        "an argument twice": started([*train, "--yes"], [*train, "--yes", "--yes"], "rank 1 has other arguments"),
        "an argument with a line break": started(train, [*train, ODD], "rank 1 has other arguments"),
        "an argument of a megabyte": started(train, [*train, "x" * 2**20], "rank 1 has other arguments"),
        "a name that is not UTF-8": started(train, [*train, "\udcff"], "UTF-8"),
        "other paths of one folder": started([*train, "--out", "a"], [*train, "--out", "./a"], "rank 1"),
    }


KINDS: dict[str, Callable[[], dict[str, Case]]] = {
    "beside checkpoints": strays,
    "tower": towers,
    "captions": captions,
    "number": numbers,
    "record": records,
    "environment": environments,
    "process": processes,
    "ranks": ranks,
}


def second_cases() -> dict[str, Case]:
    """Return all, by what they are."""
    return {f"{kind}: {name}": case for kind, write in KINDS.items() for name, case in write().items()}
