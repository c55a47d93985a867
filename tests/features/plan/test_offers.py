"""What a plan says of captions, and what it offers to `doctor`."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.environment.gpu_specs import GPU_SPECS
from bench.features.plan.model import PUBLISHED_HIGH
from bench.features.plan.workload import predict_most_images_per_second
from tests.cli.test_caption_lengths import WEB, tables
from tests.data.shards import write_shards
from tests.small import small


def test_plan_prints_the_lengths_and_the_tokens_that_it_charges(
    decoded: Path, tmp_path: Path
) -> None:
    rows = {}
    for lengths in ("pack", "web"):
        out = tmp_path / f"{lengths}.json"
        options = ["--set", f"caption_lengths={lengths}", "--set", "context_length=77"]
        words = ["plan", "clip-tiny", "catlip-tiny", "--device", "h100", *options]
        assert main([*words, "--results", str(decoded), "--json", str(out)]) == 0
        rows[lengths] = tables(out)["Plan for 64 GPUs"]["rows"]
        (captions,) = [
            row for row in tables(out)["Assumptions"]["rows"] if row["assumption"] == "captions"
        ]
        assert captions["value"] == (WEB if lengths == "web" else "those of the pack")
    (own, own_catlip), (web, web_catlip) = rows["pack"], rows["web"]
    assert 8 < own["tokens per caption"] < 15 < web["tokens per caption"] < 30
    assert web["forward, ms"] > own["forward, ms"]
    assert web_catlip["tokens per caption"] is None
    assert web_catlip["forward, ms"] == own_catlip["forward, ms"]


def test_rate_of_a_gpu_is_the_most_that_a_plan_for_one_predicts(
    results: Path, tmp_path: Path
) -> None:
    shards = write_shards(tmp_path / "data")
    settings = ["--set", f"data={shards}", "--results", str(results)]
    words = ["plan", "clip-tiny", "--device", "h100", "--gpus", "1"]
    assert main([*words, *settings, "--json", str(tmp_path / "plan.json")]) == 0
    tables = json.loads((tmp_path / "plan.json").read_text())
    planned = PUBLISHED_HIGH * tables["Plan for 1 GPUs"]["rows"][0]["images/s"]
    experiment = small("clip", data=str(shards), batch_size=128, images=80_000)
    assert predict_most_images_per_second(experiment, GPU_SPECS["h100"], results) == pytest.approx(
        planned, rel=0.01
    )
