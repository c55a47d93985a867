"""The program: a table of what was asked and found, and exit code 1 where something does not hold."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.chaos import harness as chaos
from tests.chaos.__main__ import main
from tests.chaos.bound import Check
from tests.chaos.harness import MODULES, PARTS, run_part
from tests.processes import LONGEST_SECONDS, have_ended, wait_until

ROOT = Path(__file__).parents[2]
GOOD, BAD = Check("kills", "0", "0 of 3", True), Check("kills", "0", "1 of 3", False, ("the second of them",))


@pytest.mark.parametrize(("bounds", "code"), [([GOOD], 0), ([GOOD, BAD], 1)])
def test_failed_check_gives_exit_code_1(
    bounds: list[Check],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []
    monkeypatch.setattr(chaos, "run_part", lambda *arguments: asked.append(arguments) or bounds)
    figures = tmp_path / "figures.json"
    words = ["--part", "kills", "--part", "loops", "--fraction", "0.5", "--seed", "7", "--json", str(figures)]
    assert main(words) == code
    assert asked == [("loops", 0.5, 7), ("kills", 0.5, 7)]  # what keeps both cores busy comes last
    (table,) = json.loads(figures.read_text()).values()
    assert len(table["rows"]) == 2 * len(bounds)
    assert table["rows"][0] == {"part": "loops", "what": "kills", "asked": "0", "found": "0 of 3", "holds": "yes"}
    out, err = capsys.readouterr()
    assert "Seed 7, 50% of the tries" in out
    assert ("the second of them" in err) == bool(code)


def test_random_seed_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = set()
    monkeypatch.setattr(chaos, "run_part", lambda _name, _share, seed: seeds.add(seed) or [GOOD])
    assert main(["--part", "disk"]) == main(["--part", "disk"]) == 0
    assert len(seeds) == 2
    text = capsys.readouterr().out
    assert all(f"Seed {seed}," in text for seed in seeds)


@pytest.mark.parametrize(
    ("words", "text"), [(["--part", "kils"], "did you mean 'kills'"), (["--fraction", "0"], "--fraction is above 0")]
)
def test_unknown_part_is_refused(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert text in capsys.readouterr().err


def test_crashed_part_is_a_failed_check() -> None:
    (bound,) = run_part("nothing", 1.0, 0)
    assert not bound.is_met
    assert "tests.chaos.nothing" in bound.actual


def test_every_part_has_a_module() -> None:
    folder = Path(chaos.__file__).parent
    assert all((folder / f"{MODULES.get(name, name)}.py").is_file() for name in PARTS)


def test_interrupt_terminates_the_part_and_its_children() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--part", "kills", "--fraction", "0.02"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    parent = psutil.Process(running.pid)
    wait_until(lambda: len(parent.children(recursive=True)) >= 3, running)
    family = parent.children(recursive=True)
    running.terminate()
    _, text = running.communicate(timeout=LONGEST_SECONDS)
    assert running.returncode == 143, text
    assert "interrupted" in text
    assert have_ended(family)
