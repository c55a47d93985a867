"""The rules of the architecture."""

import importlib
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from bench.cli.compare import VERBS, Bench
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


def test_the_command_line_has_these_options_and_no_others() -> None:
    options = {name: [field.name for field in fields(verb)] for name, verb in {"": Bench, **VERBS}.items()}
    assert options == {
        "": ["minutes", "smoke", "full", "data", "root", "tasks", "resume", "results"],
        "list": ["recipe", "json"],
        "measure": [
            "names",
            "rounds",
            "memory_gib",
            "data",
            "caption_lengths",
            "vocabulary",
            "labels",
            "trace",
            "allow_differences",
            "resume",
            "settings",
            "results",
            "json",
        ],
        "explain": [
            *("name", "baseline", "recipe", "factors", "factorial", "rounds", "minutes", "resume"),
            *("caption_lengths", "settings", "results", "json"),
        ],
        "train": [
            *("name", "images", "data", "vocabulary", "labels", "count_vocabulary", "min_count", "out", "resume"),
            *("checkpoint_minutes", "tensorboard", "score", "tasks", "root", "settings", "json"),
        ],
        "plan": [
            *("names", "gpus", "images", "record", "device", "utilisation", "batch", "price", "overlap", "per_node"),
            *("link_gbs", "link_us", "network_gbs", "network_us", "links", "validate_local", "solve", "published"),
            *("caption_lengths", "settings", "results", "json"),
        ],
        "transfer": ["tower", "tasks", "protocols", "root", "reference", "templates", "resume", "results", "json"],
        "embed": ["name", "out", "settings", "results"],
        "export": ["tower", "out", "results"],
        "label": [
            *("inputs", "out", "vocabulary", "rule", "column", "count_only", "min_count", "size", "merge"),
            *("explain", "shards", "engine", "workers", "force", "json"),
        ],
        "doctor": [
            *("shards", "experiment", "device", "images_per_s", "loading_seconds", "settings", "results", "json"),
        ],
        "gpu": ["minutes", "only", "device", "resume", "results"],
        "selftest": ["resume", "results", "json"],
        "reference": ["reference", "name", "checkout", "scale", "rounds", "settings", "results", "json"],
        "regress": ["base", "rounds", "only", "results", "json"],
        "history": ["commits", "repository", "rounds", "only", "out"],
    }


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_a_workflow_pins_its_actions_and_hands_no_secret_to_forks(path: Path) -> None:
    text = path.read_text()
    assert all(re.search(r"@v\d+$", line) for line in text.splitlines() if "uses:" in line)
    assert "\npermissions:\n" in text
    assert "secrets." not in text
    assert "pull_request_target" not in text
