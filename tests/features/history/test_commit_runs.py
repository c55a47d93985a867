"""The verbs `regress` and `history`, run for real on a small repository of another project, whose suite waits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.features.history.commit_runs import checkout_work_tree, time_suites_once
from bench.features.history.verbs import CompareWithBaseCommit, TimeCommits
from bench.measure.metric_values import read_metric_values
from tests.processes import LONGEST_SECONDS, wait_until

ROOT = Path(__file__).parents[3]
WHERE = Path("benchmarks")
# Its clock is its own: what it shows depends on the work alone, which differs by thousandths between processes.
SUITE = """
import random
import pytest
from waiting import seconds

now = 0.0
work = seconds * random.uniform(0.998, 1.002)

def timer():
    global now
    now += 1e-7
    return now

def wait():
    global now
    now += work

@pytest.mark.benchmark(timer=timer)
def test_wait(benchmark):
    benchmark(wait)
    benchmark.extra_info["parameters"] = {parameters}

@pytest.mark.benchmark(timer=timer)
def test_same(benchmark):
    benchmark(timer)
"""
SETTINGS = "[tool.pytest.ini_options]\naddopts = ['--strict-markers', '--strict-config']\n"


def run_git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit(repository: Path, seconds: float, parameters: int = 1, suite: str = SUITE) -> str:
    for folder in ("src", "benchmarks"):
        (repository / folder).mkdir(exist_ok=True)
    (repository / "src" / "waiting.py").write_text(f"seconds = {seconds}")
    (repository / WHERE / "test_wait.py").write_text(suite.format(parameters=parameters))
    run_git(repository, "add", "--all")
    run_git(repository, "commit", "--quiet", "--allow-empty", "--message", f"waits {seconds}")
    return run_git(repository, "rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit; scratch files go beside it, and a package of its name that is installed."""
    folder, scratch = tmp_path / "repository", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    (tmp_path / "waiting.py").write_text("seconds = 1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    # A process of suites starts in half the time.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_benchmark.plugin")
    # A process of its own would import torch.
    monkeypatch.setattr(
        "bench.features.history.commit_runs.read_machine_fingerprint", lambda: "here"
    )
    run_git(folder, "init", "--quiet")
    (folder / "pyproject.toml").write_text(SETTINGS)
    commit(folder, 0.001)
    return folder


def nothing_is_left(repository: Path) -> bool:
    trees = run_git(repository, "worktree", "list", "--porcelain").count("worktree ")
    return trees == 1 and not list((repository.parent / "scratch").glob("catlip-bench-*"))


IN_TURN = """
import os, time
import pytest

@pytest.mark.parametrize("part", range({parameters}))
def test_part(benchmark, part):
    with open(r"{log}", "a") as log:
        log.write(f"{name} begins {part}\\n")
        time.sleep(0.02)
        log.write(f"{name} ends {part}\\n")
    benchmark.pedantic(int, rounds=1)
"""


def test_suites_are_interleaved_by_benchmark(tmp_path: Path) -> None:
    trees = {}
    for name, parts in (("a", 3), ("b", 1), ("c", 2)):
        suite = tmp_path / name / WHERE / "test_parts.py"
        suite.parent.mkdir(parents=True)
        values = {"parameters": str(parts), "log": str(tmp_path / "log"), "name": name}
        text = IN_TURN
        for field, value in values.items():
            text = text.replace(f"{{{field}}}", value)
        suite.write_text(text)
        (tmp_path / name / "pyproject.toml").write_text(SETTINGS)
        trees[name] = tmp_path / name
    documents = time_suites_once(trees, WHERE)
    turns = ["a 0", "b 0", "c 0", "a 1", "c 1", "a 2"]
    expected = [f"{turn[0]} {what} {turn[2]}" for turn in turns for what in ("begins", "ends")]
    assert (tmp_path / "log").read_text().splitlines() == expected
    assert [len(documents[name]["benchmarks"]) for name in "abc"] == [3, 1, 2]


def test_work_tree_is_removed_however_its_block_ends(repository: Path) -> None:
    def interrupted() -> None:
        with checkout_work_tree(repository, "HEAD", WHERE) as tree:
            assert (tree / WHERE / "test_wait.py").is_file()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(
        ValueError, match=r"has no bench/suites: name its .+ --benchmark-tests PATH"
    ):
        TimeCommits(1, repository).run()
    assert nothing_is_left(repository)


@pytest.mark.slow
def test_slower_benchmark_and_changed_counter_are_named_and_others_are_not(
    repository: Path, tmp_path: Path
) -> None:
    commit(repository, 0.002, parameters=2)
    options = {"rounds": 5, "results": tmp_path / "results", "json": tmp_path / "table.json"}
    assert CompareWithBaseCommit("HEAD~1", repository, WHERE, **options).run() == 1  # type: ignore[arg-type]
    table = json.loads((tmp_path / "table.json").read_text())["New against old"]
    verdicts = {row["part"]: row["verdict"] for row in table["rows"]}
    assert verdicts["test_wait, time"] == verdicts["test_wait, parameters"] == "worse"
    assert verdicts["test_same, time"] == "no difference"
    assert "test_wait.py differs: it may time different work" in table["note"]
    assert nothing_is_left(repository)
    assert len(list((tmp_path / "results" / "regress").rglob("*.json"))) == 10


def test_failed_suites_are_not_a_pass(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(repository, 0.001, suite="def test_none():\n    raise RuntimeError('broken')")
    with pytest.raises(ValueError, match="the suite of new failed or timed nothing: exit code 1"):
        CompareWithBaseCommit("HEAD~1", repository, WHERE, rounds=1, results=tmp_path).run()
    assert "RuntimeError: broken" in capsys.readouterr().err
    with pytest.raises(ValueError, match="main~99"):
        CompareWithBaseCommit("main~99", repository, WHERE).run()


def test_last_commits_are_timed_in_turn(repository: Path, tmp_path: Path) -> None:
    commits = [commit(repository, 0.001) for _ in range(2)]
    assert TimeCommits(2, repository, WHERE, rounds=1, json_folder=tmp_path / "out").run() == 0
    metric_values = read_metric_values([tmp_path / "out"], [])
    assert sorted({figure.commit.id for figure in metric_values}) == sorted(commits)
    assert {figure.machine for figure in metric_values} == {"here"}
    assert nothing_is_left(repository)


TELLS_ITS_PID = """
import os, pathlib, time

def wait():
    time.sleep(60)

pathlib.Path(os.environ["PIDS"], str(os.getpid())).touch()
"""


def test_a_signal_ends_the_suites_and_removes_the_work_trees(
    repository: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        commit(repository, 60, suite=SUITE + TELLS_ITS_PID)
    scratch, pids = repository.parent / "scratch", tmp_path / "pids"
    pids.mkdir()
    words = f"-m bench history 2 --repository {repository} --benchmark-tests {WHERE} --json-folder {tmp_path}"
    command = [sys.executable, *words.split()]
    environment = os.environ | {"TMPDIR": str(scratch), "PIDS": str(pids)}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    wait_until(lambda: len(list(pids.iterdir())) == 2, running)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=LONGEST_SECONDS)
    assert running.returncode == 143
    assert not any(psutil.pid_exists(int(path.name)) for path in pids.iterdir())
    assert nothing_is_left(repository)
