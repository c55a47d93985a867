"""The manual: `nox -l` lists what this project does, `nox -s NAME` does it.

Sessions run in virtual environments that are made once and kept. `CATLIP_BENCH_NOX=none` runs them in the environment
at hand (a GPU machine with a torch of its own), `CATLIP_BENCH_NOX=uv` makes the environments with uv.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import nox
from nox.command import CommandFailed

nox.options.default_venv_backend = os.environ.get("CATLIP_BENCH_NOX", "virtualenv")
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests"]

FAILED_CASE = 3  # the exit code of `python -m bench` where a run failed and the others stand
IN_ORDER = ["-p", "no:randomly"]
SUITES = ["--benchmark-warmup=on", "--benchmark-warmup-iterations=3"]
SIDE_BY_SIDE = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]  # a file's tests share what they set up
LEFT_TO_END = {"interrupt_timeout": 20, "terminate_timeout": 20}  # seconds, for a command that saves what it has
OF_EXTRAS = [
    "tests/data/test_rebuild.py",
    *map("tests/labels/test_{}.py".format, ("corenet", "hypernyms", "label", "lexicon")),
]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
QUICK_SUITES = ["--benchmark-min-rounds=1", "--benchmark-max-time=0.05"]


@nox.session
def bench(session: nox.Session) -> None:
    """Compare the methods on the shipped pack and draw results/index.html (`-- --smoke` in a minute, `-- --full`)."""
    install(session, ".[tests]")
    command = ["python", "-m", "bench", *session.posargs]
    run(session, *command, success_codes=[0, FAILED_CASE])
    if {"-h", "--help"} & set(session.posargs):
        return
    results = folder_of(session.posargs, "--results", "results")
    budget = QUICK_SUITES if "--smoke" in session.posargs else SUITES
    some = [] if "--full" in session.posargs else ["-m", "not minutes"]
    command = [
        "python",
        "-m",
        "pytest",
        "bench/suites",
        "-q",
        *IN_ORDER,
        *some,
        f"--benchmark-json={results}/suites.json",
    ]
    run(session, *command, *budget, env={"OMP_NUM_THREADS": "1"})
    run(session, "python", "-m", "reports", "build", results, "--out", f"{results}/index.html")
    newest = max((path.name.split(".", 1)[0] for path in Path(results).glob("*-*.*.json")), default="none")
    if list(Path(results).glob(f"{newest}.failure.*.json")):
        session.error(f"a run failed: {results}/index.html says which and why; `--resume` tries it again")


@nox.session
def selftest(session: nox.Session) -> None:
    """Prove what this machine can find: the same twice, and slowed by 5 and 10 %; 200 runs, half an hour."""
    install(session, ".[tests]")
    command = ["python", "-m", "bench", "selftest", *session.posargs]
    run(session, *command)


@nox.session
def peer(session: nox.Session) -> None:
    """Race other people's training code: `-- open-clip` or `-- dense-bce`, about 17 minutes each."""
    install(session, ".[tests]")
    command = ["python", "-m", "bench", "peer", *session.posargs]
    run(session, *command)


@nox.session
def chaos(session: nox.Session) -> None:
    """Break what can break and count what is lost: 100 kills, 800 spoilt shards, hostile files; 25 minutes."""
    install(session, ".[tests,history]")
    command = ["python", "-m", "tests.chaos", *session.posargs]
    run(session, *command)


@nox.session
def regress(session: nox.Session) -> None:
    """Compare with a base commit: `-- BASE`; exits with 1 where a part is slower, 4 where it cannot be told."""
    install(session, ".[tests]")
    command = ["python", "-m", "bench", "regress", *session.posargs]
    if code := code_of(session, *command):
        sys.exit(code)


@nox.session
def history(session: nox.Session) -> None:
    """Time the last commits' suites and draw charts over them: `-- 8`, a quarter of an hour."""
    install(session, ".[tests,history]")
    command = ["python", "-m", "bench", "history", *session.posargs]
    code = code_of(session, *command)
    if code in (0, FAILED_CASE) and not {"-h", "--help"} & set(session.posargs):
        run(session, "python", "-m", "reports", "history", folder_of(session.posargs, "--out", "results/history"))
    if code:
        sys.exit(code)


@nox.session
def tests(session: nox.Session) -> None:
    """Test on the CPU, offline, shapes checked, in two processes (`-- -n 0`: in one); draw the kept records."""
    install(session, ".[tests,history,tensorboard]")
    run(session, "python", "-m", "pytest", *SIDE_BY_SIDE, "-m", "not minutes", *session.posargs, env=ONE_THREAD)
    run(session, "python", "-m", "reports", "build", "tests/records", "--out", "results/records/index.html")
    run(session, "python", "-m", "reports", "history", "tests/records", "--out", "results/records/charts.html")


@nox.session(name="tests-extras")
def tests_extras(session: nox.Session) -> None:
    """Test what needs the extras `pack`, `oracle` and `ray`."""
    install(session, ".[tests,pack,oracle,ray]")
    run(session, "python", "-m", "pytest", *SIDE_BY_SIDE, *(session.posargs or OF_EXTRAS), env=ONE_THREAD)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types, and that imports point one way."""
    install(session, ".[tests,lint]")
    run(session, "ruff", "format", "--check")
    run(session, "ruff", "check")
    run(session, "mypy")
    run(session, "lint-imports")


def install(session: nox.Session, *packages: str) -> None:
    """Install this checkout, editable, unless the session runs in an environment that somebody prepared.

    Nothing asks the network. Modules are compiled by the first process that imports them, for hundreds are started.
    """
    session.env.update(HF_HUB_OFFLINE="1", PYTHONDONTWRITEBYTECODE="")
    if session.virtualenv.venv_backend != "none":
        session.install("--no-compile", "-e", *packages)  # most modules are never imported


def run(session: nox.Session, *command: str, **options: Any) -> None:
    """Run a command, which an interrupt leaves time to end what it started."""
    session.run(*command, **LEFT_TO_END, **options)


def code_of(session: nox.Session, *command: str) -> int:
    """Run a command whose exit code says more than that it failed, and return it."""
    try:
        run(session, *command)
    except CommandFailed as failure:
        return getattr(failure, "return_code", None) or 1
    return 0


def folder_of(arguments: list[str], option: str, default: str) -> str:
    """Return the folder that the arguments name, or the default."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(option, dest="folder", default=default)
    return str(parser.parse_known_args(arguments)[0].folder)


def end_with_children(number: int, _frame: FrameType | None) -> NoReturn:
    """Send SIGTERM on to what the session runs (Linux tells what that is), and end as on Ctrl-C."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            os.kill(int(child), number)
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, end_with_children)
