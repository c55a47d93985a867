"""Each broken rule is named in one line, and methods that keep all rules pass."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch.multiprocessing as mp

from bench.console.console import DISAGREEMENT, USAGE
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.features.check import two_processes
from bench.features.check.checks import (
    check_loss_is_equal_for_all_paddings,
    check_resumed_training_is_equal,
    run_method_checks,
)
from bench.features.check.two_processes import check_two_processes_equal_one
from bench.features.check.verb import SMALL_SETTINGS
from bench.interfaces.extensions import load_features_and_extensions
from bench.measure.method_checks import require_working_method, run_check
from tests import remembering
from tests.processes import answer, forkserver, in_child
from tests.test_extensions import write_examples

BROKEN_METHODS = Path(__file__).parent / "broken_methods.py"
# Words of the outcome of the checks without data, by the method that breaks the rule.
WORDS = {
    "tower_elsewhere": "no attribute `tower`",
    "no_tower": "does not call the tower",
    "reads_item": r"needs values of tensors, as `\.item\(\)` does.*broken_methods.py, line \d+",
    "not_scalar": r"the shape \(8,\): it must be a scalar",
    "no_gradient": "has no gradient",
    "detached_tower": r"no gradient reaches \d+ parameters: tower\.",
    "holds_lambda": "the method or its target cannot be pickled",
}
# The check with data that a method fails, and words of its outcome.
BROKEN: dict[str, tuple[Callable[[Experiment, Path], None], str]] = {
    "mean_over_tokens": (check_loss_is_equal_for_all_paddings, "text_padding="),
    "keeps_count": (check_resumed_training_is_equal, "after a resume"),
    "moves_frozen": (
        check_resumed_training_is_equal,
        "steps change average, which no checkpoint holds",
    ),
    "not_finite": (check_two_processes_equal_one, "the loss is nan"),
    "sum_of_batch": (check_two_processes_equal_one, "the mean loss of two processes is"),
    "bias_of_group": (check_two_processes_equal_one, "no gradient reaches bias"),
    "fails_in_group": (
        check_two_processes_equal_one,
        r"broken_methods\.py\", line \d+, in loss .*KeyError: 'queue'",
    ),
    "remembers_its_rank": (check_two_processes_equal_one, "leaves another buffer queue"),
}


def small_experiment(method: str) -> Experiment:
    return change(EXPERIMENTS[f"{method}-tiny"], **SMALL_SETTINGS)


def fork_spawned_processes() -> None:
    """Let the two processes of this one fork from one that has imported everything."""
    forkserver()
    two_processes.spawn = partial(mp.start_processes, start_method="forkserver")


def outcomes_of_broken_methods(results: Path) -> dict[str, str]:
    """Return the outcome of the check that each method fails."""
    load_features_and_extensions([str(BROKEN_METHODS), remembering.__file__])
    fork_spawned_processes()
    outcomes = {
        name: run_check(partial(require_working_method, small_experiment(name))) for name in WORDS
    }
    for name, (check, _) in BROKEN.items():
        outcomes[name] = run_check(partial(check, small_experiment(name), results))
    return outcomes


@pytest.mark.slow
def test_every_broken_rule_is_named(decoded: Path) -> None:
    outcomes = in_child(outcomes_of_broken_methods, decoded)
    for name, words in [*WORDS.items(), *((name, words) for name, (_, words) in BROKEN.items())]:
        assert re.search(words, outcomes[name]), f"{name}: {outcomes[name]}"


@pytest.mark.parametrize(
    ("verb", "method"),
    [("measure", "reads_item"), ("measure", "holds_lambda"), ("train", "detached_tower")],
)
def test_a_broken_rule_is_named_before_any_run(
    verb: str, method: str, results: Path, tmp_path: Path
) -> None:
    words = ("--extension", str(BROKEN_METHODS), verb, f"{method}-tiny")
    folder = ("--out", str(tmp_path)) if verb == "train" else ("--results", str(results))
    code, text = answer(tmp_path, *words, *folder)
    assert code == USAGE
    assert re.search(f"error: {method}-tiny: .*{WORDS[method]}", text)
    assert len(text.strip().splitlines()) == 1


def test_a_failed_check_is_a_disagreement_and_ends_the_checks(tmp_path: Path) -> None:
    source = BROKEN_METHODS.read_text(encoding="utf-8")
    (tmp_path / "one.py").write_text(f"{source}\nEXTENSION = Extension(methods=[NotScalar()])\n")
    code, out = answer(tmp_path, "check", "one.py")
    assert code == DISAGREEMENT
    assert "it must be a scalar" in " ".join(out.split())
    assert "resume" not in out


def outcomes_of(path: Path, method: str, results: Path) -> dict[str, str]:
    """Return the outcomes of all checks of a method of an extension."""
    load_features_and_extensions([str(path)])
    fork_spawned_processes()
    return run_method_checks(small_experiment(method), results)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("rotation", marks=pytest.mark.slow),
        pytest.param("remembering", marks=pytest.mark.slow),
        pytest.param("simclr", marks=pytest.mark.exhaustive),
    ],
)
def test_a_method_that_keeps_the_rules_passes_all_checks(
    method: str, decoded: Path, tmp_path: Path
) -> None:
    """Two of the docs, and one with a queue of the features of all processes."""
    path = write_examples(tmp_path) / f"{method}.py"
    if method == "remembering":
        path = Path(remembering.__file__)
    outcomes = in_child(outcomes_of, path, method, decoded)
    assert len(outcomes) == 5
    assert {*outcomes.values()} == {"ok"}


@pytest.mark.parametrize("content", ["", "EXTENSION = None", "import nowhere"])
def test_a_file_without_a_method_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.py"
    path.write_text(content, encoding="utf-8")
    code, text = answer(tmp_path, "check", str(path))
    assert code == USAGE
    assert len(text.strip().splitlines()) == 1
