"""Made-up records on claims: runs of the authors' code."""

import math
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from bench.experiment.config import change
from bench.experiment.experiments import get_experiment
from bench.features.claims.claims import SpeedClaim
from bench.features.claims.conditions import CORENET, CORENET_COMMIT, CORENET_FILES
from bench.records.record import Record, ReleasedRun
from tests.reports.conftest import HERE

A100 = replace(HERE, device="cuda", machine="NVIDIA A100-SXM4-80GB; Example CPU, 2 logical cores")
SHARDS = "/data/datacomp-1b"


def authors_runs(claim: SpeedClaim, ratio: float, rounds: int = 5) -> list[Record]:
    """Runs of both released files that meet all conditions, CatLIP so many times as fast as CLIP."""
    records = []
    for round_ in range(rounds):
        for name, file, rate in zip(
            (claim.baseline, claim.experiment),
            claim.released_files,
            (100.0, 100.0 * ratio),
            strict=True,
        ):
            run = ReleasedRun(
                repository=CORENET,
                commit=CORENET_COMMIT,
                file=file,
                file_sha256=CORENET_FILES[file],
                data_wait_share=0.01,
                throttled_percent=0.0,
                round=round_,
                gpus=1,
                window_images=(1000,),
                window_seconds=(1000 / (rate * math.exp(0.001 * (-1) ** round_)),),
                losses=(),
            )
            experiment = change(get_experiment(name), data=SHARDS, pack_caption_lengths="own")
            records.append(
                Record(
                    comparison="released", experiment=experiment, circumstances=A100, measured=run
                )
            )
    return records


def with_run(**fields: Any) -> Callable[[Record], Record]:
    """Return a function that changes fields of what a run left."""
    return lambda record: replace(record, measured=replace(record.measured, **fields))


def with_circumstances(**fields: Any) -> Callable[[Record], Record]:
    """Return a function that changes the circumstances of a run."""
    return lambda record: replace(record, circumstances=replace(record.circumstances, **fields))


def of_the_pack(record: Record) -> Record:
    """Return the run with the pack's images, which lie in memory."""
    assert record.experiment is not None
    return replace(
        record,
        experiment=change(record.experiment, data="shipped-pack", pack_caption_lengths="web"),
    )
