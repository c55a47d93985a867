"""Runs of a released file decide a claim on speed."""

import pytest

pytest.importorskip("bench.features.claims", reason="claims are another feature")

from bench.features.claims.claims import get_claim
from bench.features.claims.conditions import CORENET_COMMIT, CORENET_FILES
from bench.features.claims.verdict import judge_claim
from bench.features.reference.experiments import released_experiments
from bench.records.record import Record
from tests.features.claims.evidence import A100
from tests.features.reference.test_released_run import run


def records(changed: dict[str, str], seconds: tuple[float, float]) -> list[Record]:
    """Five rounds of CLIP's and CatLIP's file, so many seconds a window."""
    experiments = released_experiments("vit-b16", ["data=/disk/datacomp"], on_gpu=True)
    found = []
    for (file, experiment), taken in zip(experiments.items(), seconds, strict=True):
        for round_ in range(5):
            windows = (taken + 0.001 * round_, taken)
            fields = {
                "commit": CORENET_COMMIT,
                "file_sha256": CORENET_FILES[file],
                "changed": changed,
            }
            waits = {"data_wait_share": 0.0, "throttled_percent": 0.0}
            measured = run(file, round_, windows, **fields, **waits)
            found.append(
                Record(comparison="x", experiment=experiment, circumstances=A100, measured=measured)
            )
    return found


def test_runs_of_the_released_files_decide_both_ways() -> None:
    claim = get_claim("catlip-2.7x")
    assert judge_claim(claim, records({}, (2.7, 1.0))).verdict == "reproduced"
    assert judge_claim(claim, records({}, (1.5, 1.0))).verdict == "not reproduced"


def test_changed_key_prevents_an_answer_and_a_changed_tower_is_no_evidence() -> None:
    claim = get_claim("catlip-2.7x")
    changed = judge_claim(claim, records({"common.grad_clip": "used 1, released 2"}, (2.7, 1.0)))
    assert changed.verdict == "not decided"
    assert "common.grad_clip: used" in changed.detail
    tiny = judge_claim(claim, records({"model.classification.vit.mode": "used 1"}, (2.7, 1.0)))
    assert not tiny.evidence
