"""What a plan says of captions."""

from pathlib import Path

import pytest

from bench.__main__ import main
from tests.cli.test_caption_lengths import WEB, tables


@pytest.mark.slow
def test_plan_prints_the_lengths_and_the_tokens_that_it_charges(tmp_path: Path) -> None:
    rows = {}
    settings = ("context_length=77", "subset=random:300")
    options = [word for setting in settings for word in ("--set", setting)]
    for lengths in ("own", "web"):
        out = tmp_path / f"{lengths}.json"
        words = ["plan", "clip-tiny", "catlip-tiny", "--assumed-gpu", "h100", *options]
        words += ["--set", f"pack_caption_lengths={lengths}"]
        assert main([*words, "--json", str(out)]) == 0
        rows[lengths] = tables(out)["Plan for 64 GPUs"]["rows"]
        (captions,) = [
            row for row in tables(out)["Assumptions"]["rows"] if row["assumption"] == "captions"
        ]
        assert captions["value"] == (WEB if lengths == "web" else "those of the pack")
    (own, own_catlip), (web, web_catlip) = rows["own"], rows["web"]
    assert 8 < own["tokens per caption"] < 15 < web["tokens per caption"] < 30
    assert web["forward, ms"] > own["forward, ms"]
    assert web_catlip["tokens per caption"] is None
    assert web_catlip["forward, ms"] == own_catlip["forward, ms"]
