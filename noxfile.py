"""The sessions of the project: `nox -l` lists them, `nox -s NAME` runs one.

Sessions run in virtual environments that are made once and reused. `CATLIP_BENCH_NOX=none` runs them in the current
environment (a GPU machine with its own torch), `CATLIP_BENCH_NOX=uv` makes the environments with uv.
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

FAILED_CASE = 3  # exit code of `python -m bench` if a run failed and the others are valid
IN_ORDER = ["-p", "no:randomly"]
# The tests of a file share fixtures.
SIDE_BY_SIDE = [
    "-n",
    "2",
    "--dist",
    "loadfile",
    "--no-loadscope-reorder",
]
QUICK = ["-m", "not slow and not exhaustive"]
# Seconds for a command to save its state.
LEFT_TO_END = {
    "interrupt_timeout": 20,
    "terminate_timeout": 20,
}
OF_EXTRAS = [
    *("tests/features/label/test_label.py", "tests/pack", "tests/data/test_label_formats.py"),
    *map("tests/labels/test_{}.py".format, ("corenet", "hypernyms", "lexicon")),
]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
ALL_FAULTS = ["--tries", "1", "-n", "2", "--dist", "worksteal"]


@nox.session
def bench(session: nox.Session) -> None:
    """Compare the methods on the shipped pack and draw results/index.html (`-- --smoke`: 90 s, `-- --full`)."""
    install(session, ".[tests]")
    run(session, "python", "-m", "bench", *session.posargs, success_codes=[0, FAILED_CASE])
    if {"-h", "--help"} & set(session.posargs):
        return
    results = parse_folder_option(session.posargs, "--results", "results")
    report(session, "build", results, "--out", f"{results}/index.html")
    newest = max(
        (path.name.split(".", 1)[0] for path in Path(results).glob("*-*.*.json")), default="none"
    )
    if list(Path(results).glob(f"{newest}.failure.*.json")):
        session.error(
            f"a run failed: {results}/index.html says which and why; `--resume` tries it again"
        )


@nox.session
def gpu(session: nox.Session) -> None:
    """Test and measure for the first time on a GPU, in an hour; `SCALE=tiny nox -s gpu` tries it on a CPU."""
    install(session, ".[tests]")
    run(session, "docs/gpu/first_hour.sh", *session.posargs, external=True)


@nox.session(name="fake-cuda")
def fake_cuda(session: nox.Session) -> None:
    """Take the step of each method on fake CUDA tensors, without a GPU; installs PyTorch for CUDA (about 5 GB)."""
    install(session, ".[tests]")
    is_cuda = "import sys, torch; sys.exit(torch.version.cuda is None)"
    if run_for_exit_code(session, "python", "-c", is_cuda):
        session.error(
            "this PyTorch is built without CUDA: install it from https://download.pytorch.org/whl/cu130"
        )
    run(
        session,
        "python",
        "-m",
        "pytest",
        "tests/gpu/test_fake_device.py",
        *IN_ORDER,
        *session.posargs,
    )


@nox.session
def selftest(session: nox.Session) -> None:
    """Measure which slowdowns this machine detects: none, 5 and 10 %; 240 runs, half an hour."""
    install(session, ".[tests]")
    run(
        session,
        "python",
        "-m",
        "pytest",
        "tests/slowdowns.py",
        "-q",
        "-s",
        *IN_ORDER,
        *session.posargs,
    )


@nox.session
def reference(session: nox.Session) -> None:
    """Compare with reference training code: `-- open-clip` (20 minutes) or a checkout."""
    install(session, ".[tests]")
    run(session, "python", "-m", "bench", "reference", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Inject faults: 100 kills, 1,600 corrupted shards, hostile files; half an hour (`-- --tries 0.1`: less)."""
    install(session, ".[tests]")
    run(session, "python", "-m", "pytest", "tests/chaos", *ALL_FAULTS, *session.posargs)


@nox.session
def regress(session: nox.Session) -> None:
    """Compare with a base commit: `-- BASE`; exits with 1 if a part is slower, 4 if it is inconclusive."""
    install(session, ".[tests]")
    if code := run_for_exit_code(session, "python", "-m", "bench", "regress", *session.posargs):
        sys.exit(code)


@nox.session
def history(session: nox.Session) -> None:
    """Time the suites of the last commits and draw charts: `-- 8`, a quarter of an hour."""
    install(session, ".[tests]")
    code = run_for_exit_code(session, "python", "-m", "bench", "history", *session.posargs)
    if code in (0, FAILED_CASE) and not {"-h", "--help"} & set(session.posargs):
        report(session, "history", parse_folder_option(session.posargs, "--out", "results/history"))
    if code:
        sys.exit(code)


@nox.session
def tests(session: nox.Session) -> None:
    """Test on the CPU, offline, shapes checked, in two processes (`-- -n 0`: in one)."""
    install(session, ".[tests]")
    run(session, "python", "-m", "pytest", *SIDE_BY_SIDE, *QUICK, *session.posargs, env=ONE_THREAD)


@nox.session(name="tests-extras")
def tests_extras(session: nox.Session) -> None:
    """Run the tests that need the extras `pack` and `oracle`."""
    install(session, ".[tests,pack,oracle]")
    run(
        session,
        "python",
        "-m",
        "pytest",
        *SIDE_BY_SIDE,
        *(session.posargs or OF_EXTRAS),
        env=ONE_THREAD,
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Build results/site/index.html from docs/; warnings, broken links and failing cells of the notebook are errors."""
    install(session, ".[docs]")
    options = ["--fresh-env", "--fail-on-warning", "--keep-going", "--quiet"]
    run(session, "python", "-m", "sphinx", *options, "docs", "results/site", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types, the layers of imports and the job scripts."""
    install(session, ".[tests,lint]")
    run(session, "ruff", "format", "--check")
    run(session, "ruff", "check")
    run(session, "mypy")
    run(session, "lint-imports")
    run(
        session,
        "shellcheck",
        *map(str, Path("docs/slurm").iterdir()),
        "docs/gpu/first_hour.sh",
        ".ci/run",
    )


def install(session: nox.Session, *packages: str) -> None:
    """Install this checkout, editable, unless the session runs in the current environment.

    Runs are offline. The first process that imports a module compiles it, because hundreds of processes follow.
    """
    session.env.update(HF_HUB_OFFLINE="1", PYTHONDONTWRITEBYTECODE="")
    if session.virtualenv.venv_backend != "none":
        session.install("--no-compile", "-e", *packages)  # most modules are not imported


def run(session: nox.Session, *command: str, **options: Any) -> None:
    """Run a command, with time to end its children after an interrupt."""
    session.run(*command, **LEFT_TO_END, **options)


def report(session: nox.Session, *words: str) -> None:
    """Run a verb of `bench report`."""
    run(session, "python", "-m", "bench", "report", *words)


def run_for_exit_code(session: nox.Session, *command: str) -> int:
    """Run a command, and return its exit code."""
    try:
        run(session, *command)
    except CommandFailed as failure:
        return getattr(failure, "return_code", None) or 1
    return 0


def parse_folder_option(arguments: list[str], option: str, default: str) -> str:
    """Return the folder given in the arguments, or the default."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(option, dest="folder", default=default)
    return str(parser.parse_known_args(arguments)[0].folder)


def end_with_children(number: int, _frame: FrameType | None) -> NoReturn:
    """Forward SIGTERM to the children of this process (Linux lists them), and end as on Ctrl-C."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            os.kill(int(child), number)
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, end_with_children)
