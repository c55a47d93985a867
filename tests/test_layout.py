"""The rules of the architecture."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.config import METHOD_NAMES
from bench.methods import METHODS

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("package", ["bench", "models", "losses", "reports"])
def test_the_checkout_is_what_is_imported(package: str) -> None:
    module = importlib.import_module(package)
    assert Path(str(module.__file__)).is_relative_to(ROOT), f"{package} comes from {module.__file__}"


def test_imports_point_one_way() -> None:
    pytest.importorskip("importlinter", reason="import-linter is in the lint session")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_module_of_bench_has_a_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    modules = {
        f"bench.{path.stem}" for path in (ROOT / "bench").iterdir() if path.suffix == ".py" or [*path.glob("*.py")]
    }
    in_layers = set(re.findall(r"bench\.\w+", " ".join(layers)))
    assert modules - {"bench.__init__", "bench.suites"} == in_layers


@pytest.mark.parametrize("module", ["bench.cli.main", "reports.__main__"])
def test_command_line_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_method_has_an_entry() -> None:
    assert tuple(METHODS) == METHOD_NAMES


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_a_workflow_pins_its_actions_and_hands_no_secret_to_forks(path: Path) -> None:
    text = path.read_text()
    assert all(re.search(r"@v\d+$", line) for line in text.splitlines() if "uses:" in line)
    assert "\npermissions:\n" in text
    assert "secrets." not in text
    assert "pull_request_target" not in text
