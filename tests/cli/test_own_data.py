"""A user's way from data and a task to a page: README's own commands, on photographs that installed packages ship."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from bench.__main__ import main
from bench.environment.circumstances import CHECKOUT
from bench.records.record import TransferScores, read_records
from tests import photographs
from tests.reports.test_page import Document

SHORT = "--set batch_size=16 --set untimed_steps=1 --set timed_windows=1 --set steps_per_window=1"
# What makes README's commands take seconds on a CPU: the tiny scale, and fewer images, rounds and steps.
SMALLER = {
    "vit-b16": "tiny",
    "12.8M": "256",
    "catlip-bench --data": "catlip-bench --smoke --results default --data",
    "catlip-bench train": f"catlip-bench train {SHORT}",
}


def own_data_commands() -> list[list[str]]:
    """README's commands for own data, those of a training for each of two methods, made smaller."""
    section = (CHECKOUT / "README.md").read_text(encoding="utf-8").partition("## Your own data")[2]
    block = section.partition("```\n")[2].partition("```")[0]
    for before, after in SMALLER.items():
        assert before in block
        block = block.replace(before, after)
    commands = []
    for line in block.splitlines():
        _, *words = shlex.split(line, comments=True)
        commands.append(words)
        if words[0] == "train":
            commands.append([re.sub(r"\bcatlip\b", "clip", word) for word in words])
    return commands


@pytest.mark.slow
@pytest.mark.usefixtures("forked_runs", "decoded")
def test_readmes_commands_lead_from_own_data_to_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs.write_shards(tmp_path / "mine", 4)
    photographs.write_task(tmp_path / "pets", 3)
    monkeypatch.chdir(tmp_path)
    for words in own_data_commands():
        assert main(words) == 0, words
    assert "is that of the pack's captions" not in capsys.readouterr().err
    for method in ("clip", "catlip"):
        scores = [
            record
            for record in read_records(Path("results", method))
            if isinstance(record.measured, TransferScores)
        ]
        assert f"{method}-tiny" in {record.measured.subject.partition("[")[0] for record in scores}
    assert main(["report", "build", "default"]) == 0
    for folder, num_images in (("default", "2,048"), ("results", "256")):
        document = Document(Path(folder, "index.html").read_text(encoding="utf-8"))
        title, clip, catlip = document.tables["The answer in figures"]
        assert [clip[0].split("|")[0], catlip[0].split("|")[0]] == ["CLIP", "CatLIP"]
        assert f"pets after {num_images} images" in " ".join(title)
        assert not any(cell == "–" for row in (clip, catlip) for cell in row)
        assert "Other results in this folder" not in document.words()
        assert document.row("Methods", "CatLIP")[1].startswith("labels: the WordNet nouns")
    assert main(["report", "export", "default", "--out", "figures.csv"]) == 0
    methods = pd.read_csv("figures.csv")["method"]
    assert {"clip", "catlip"} <= set(methods)
