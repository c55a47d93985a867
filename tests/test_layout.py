"""The rules of the architecture."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.interfaces.method import METHODS

ROOT = Path(__file__).parent.parent
SECTIONS = sorted((ROOT / "bench" / "features").glob("*/section.py"))


@pytest.mark.parametrize("package", ["bench", "models", "losses", "reports"])
def test_the_checkout_is_what_is_imported(package: str) -> None:
    module = importlib.import_module(package)
    assert Path(str(module.__file__)).is_relative_to(ROOT), (
        f"{package} comes from {module.__file__}"
    )


def test_a_run_starts_without_the_command_line_and_without_charts() -> None:
    code = """
import sys, bench.orchestration.worker as worker
worker.load_features_and_extensions()
sys.exit(bool({"tyro", "matplotlib"} & {*sys.modules}))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_module_of_bench_has_a_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    modules = {
        f"bench.{path.stem}"
        for path in (ROOT / "bench").iterdir()
        if path.suffix == ".py" or [*path.glob("*.py")]
    }
    in_layers = set(re.findall(r"bench\.\w+", " ".join(layers)))
    assert modules - {"bench.__init__", "bench.suites"} == in_layers


STARTS = [
    "from bench.cli.main import VERBS, import_verb_class, load_features_and_extensions",
    "load_features_and_extensions()",
    "for name in {*VERBS} - {'report'}: import_verb_class(name, VERBS)",
    "import bench.methods, reports.build, reports.page",
    "import bench.environment.gpu_specs, bench.data.image_sizes, bench.records.record, bench.statistics",
    "import bench.interfaces.catalog as catalog",
    "catalog.TASKS, catalog.PROTOCOLS",
    *(f"import bench.features.{path.parent.name}.section" for path in SECTIONS),
]


def test_command_line_and_reports_start_without_torch() -> None:
    frameworks = "{'torch', 'open_clip', 'timm', 'sklearn'}"
    shown = f"print({frameworks} & {{*sys.modules}})"
    words = [sys.executable, "-c", "\n".join(["import sys", *STARTS, shown])]
    assert subprocess.check_output(words, cwd=ROOT, text=True) == "set()\n"


@pytest.mark.parametrize(
    "path", [*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("docs/ci/*.yml")], ids=str
)
def test_a_workflow_pins_its_actions_and_hands_no_secret_to_forks(path: Path) -> None:
    text = path.read_text()
    assert all(re.search(r"@v\d+$", line) for line in text.splitlines() if "uses:" in line)
    assert "\npermissions:\n" in text
    assert "secrets." not in text
    assert "pull_request_target" not in text


# Where a method's name is data: its own file, the experiments that use it, published trainings, and reference code.
NAMING = ("methods/", "experiment/", "suites/")
REFERENCES = ("features/reference/",)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """The modules of this program, by their place in it."""
    paths = [
        path
        for folder in ("bench", "models", "losses", "reports")
        for path in (ROOT / folder).rglob("*.py")
    ]
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(paths)
    }


def test_no_method_is_named_outside_its_file_and_the_experiments_that_use_it(
    trees: dict[str, ast.Module],
) -> None:
    names, found = {*METHODS}, list[str]()
    for path, tree in trees.items():
        if not path.removeprefix("bench/").startswith((*NAMING, *REFERENCES)):
            constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
            found += [
                f"{path}:{node.lineno}: {node.value}" for node in constants if node.value in names
            ]
    assert not found
