"""Runs of a released file decide a claim on speed."""

import pytest

pytest.importorskip("bench.features.claims", reason="claims are another feature")

from bench.features.claims.claims import CLAIMS
from bench.features.claims.conditions import CORENET_COMMIT, CORENET_FILES
from bench.features.claims.verdict import judge_claim
from bench.features.reference.experiments import released_experiments_by_file
from bench.records.record import Record
from tests.features.claims.evidence import A100
from tests.features.reference.test_released_run import run


def test_runs_of_the_released_files_decide_a_claim() -> None:
    experiments = released_experiments_by_file("vit-b16", ["data=/disk/datacomp"], on_gpu=True)
    records = []
    for (file, experiment), seconds in zip(experiments.items(), (2.7, 1.0), strict=True):
        for round_ in range(5):
            measured = run(
                file,
                round_,
                (seconds + 0.001 * round_, seconds),
                commit=CORENET_COMMIT,
                file_sha256=CORENET_FILES[file],
                changed={},
                data_wait_share=0.0,
                throttled_percent=0.0,
            )
            records.append(
                Record(comparison="x", experiment=experiment, circumstances=A100, measured=measured)
            )
    assert judge_claim(CLAIMS["catlip-2.7x"], records).verdict == "reproduced"
