"""docs/quickstart.md leads to a page: its commands run as they stand, and `data` prints what is shown there.

`python -m tests.cli.test_quickstart` runs them and writes their outputs into the page; it takes about ten minutes.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

from bench.__main__ import main
from bench.environment.circumstances import CHECKOUT
from bench.interfaces.verb import VERBS
from tests.data.shards import write_shard
from tests.reports.test_page import Document

USED = {"data", "label", "plan"}
pytestmark = pytest.mark.skipif(
    not {*VERBS} >= USED, reason="the page names verbs of features that are not here"
)
PAGE = CHECKOUT / "docs" / "quickstart.md"
# What makes the commands take seconds on a CPU.
# In place of what the page leaves out, and the letters of a line that it shows.
CUT, WIDTH = (
    "…",
    120,
)
BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)
PROGRAM = f'catlip-bench() {{ CATLIP_BENCH_PROGRAM=catlip-bench {sys.executable} -m bench "$@"; }}'  # for bash


def is_whole(command: str) -> bool:
    """Whether all quotes of a command are closed."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def parse(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a block in order, each with the lines of its output."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if found and not is_whole(found[-1][0]):
            found[-1] = f"{found[-1][0]}\n{line}", []
        elif line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return found


def commands() -> list[tuple[str, list[str]]]:
    """The commands of the page in order, each with the lines of its output that the page shows."""
    return [
        one for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")) for one in parse(block)
    ]


def words_of_lines(output: list[str]) -> set[str]:
    """The words of each line that is not cut."""
    return {" ".join(line.split()) for line in output if CUT not in line}


def write_other_layouts(pairs: Path) -> None:
    """Write a folder of pairs as a table, as Parquet, in splits too, and as a tar shard, beside the folder."""
    texts = sorted(pairs.glob("*.txt"))
    images = [text.with_suffix(".webp") for text in texts]
    captions = [text.read_text(encoding="utf-8") for text in texts]
    named = {"image": [f"{pairs.name}/{image.name}" for image in images], "caption": captions}
    pd.DataFrame(named).to_csv(f"{pairs}.csv", index=False)
    inside = {"image": [image.read_bytes() for image in images], "caption": captions}
    pd.DataFrame(inside).to_parquet(f"{pairs}.parquet")
    pairs.with_name("hub").mkdir()
    pd.DataFrame(inside).to_parquet(pairs.with_name("hub") / "train-00000-of-00001.parquet")
    pd.DataFrame(inside)[:3].to_parquet(pairs.with_name("hub") / "test-00000-of-00001.parquet")
    members = {
        path.name: path.read_bytes() for text in texts for path in (text.with_suffix(".webp"), text)
    }
    pairs.with_name("shards").mkdir()
    write_shard(pairs.with_name("shards") / "00000.tar", members)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the commands of the page run as in a checkout."""
    (tmp_path / "bench").symlink_to(CHECKOUT / "bench")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def run(command: str) -> bool:
    """Run a command; return whether it is one of this program."""
    program, *words = shlex.split(command, comments=True)
    if program != "catlip-bench":
        subprocess.run(["bash", "-ec", command], check=True)
        return False
    assert main(words) == 0, command
    return True


def test_data_of_each_layout_on_the_page_hold_the_same_samples(folder: Path) -> None:
    for command in takewhile(
        lambda command: not command.startswith("catlip-bench"), dict(commands())
    ):
        run(command)
    write_other_layouts(folder / "mine")
    cells = re.findall(r"\| (`catlip-bench data .*) \|", PAGE.read_text(encoding="utf-8"))
    named = [command for cell in cells for command in re.findall("`(.*?)`", cell)]
    assert len(named) == 5
    found = []
    for command in ["catlip-bench data mine", *named]:
        run(f"{command} --sample 20 --json summary.json")
        tables = json.loads(Path("summary.json").read_text())
        captions = [{**row, "field": "a name of each layout"} for row in tables["Captions"]["rows"]]
        found.append((tables["Data"]["rows"][0]["samples"], captions))
    assert found == [found[0]] * 6
    assert found[0][0] == len([*Path("mine").glob("*.txt")])


@pytest.mark.minutes
@pytest.mark.usefixtures("forked_runs", "decoded", "folder")
def test_commands_of_the_quickstart_lead_to_a_page(capfd: pytest.CaptureFixture[str]) -> None:
    for command, shown in commands():
        is_own, printed = run(command), words_of_lines(capfd.readouterr().out.splitlines())
        if is_own and " data " in command:
            assert shown
            assert words_of_lines(shown) <= printed
    document = Document(Path("results/index.html").read_text(encoding="utf-8"))
    assert [row[0].split("|")[0] for row in document.tables["The answer in figures"][1:]] == [
        "CLIP",
        "CatLIP",
    ]
    assert "data:image/webp" in Path("data.html").read_text(encoding="utf-8")


def shorten(printed: str, shown: list[str]) -> list[str]:
    """The lines of an output, of its tables only those whose titles the page shows, if it shows any."""
    lines = list[str]()
    for table in printed.rstrip().split("\n\n"):
        title, *rest = table.splitlines()
        if not shown or title in shown:
            lines += [
                line if len(line) <= WIDTH else f"{line[:WIDTH]}{CUT}"
                for line in map(str.rstrip, [title, *rest, ""])
            ]
        elif lines[-1:] != [CUT]:
            lines.append(CUT)
    return lines if lines[-1] else lines[:-1]


def with_outputs(block: str, folder: Path) -> str:
    """Run the commands of a block in a folder; return the block with what they print."""
    lines = list[str]()
    for command, shown in parse(block):
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "TQDM_DISABLE": "1"}
        words = ["bash", "-ec", f"{PROGRAM}\n{command}"]
        done = subprocess.run(
            words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        lines += [f"$ {command}", *(shorten(done.stdout, shown) if done.stdout else [])]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        (Path(name) / "bench").symlink_to(CHECKOUT / "bench")
        text = BLOCK.sub(
            lambda block: with_outputs(block[0], Path(name)), PAGE.read_text(encoding="utf-8")
        )
    PAGE.write_text(text, encoding="utf-8")
