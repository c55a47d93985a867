"""Each broken rule is named in one line, and methods that keep all rules pass."""

import re
from pathlib import Path

import pytest

from bench.console.console import DISAGREEMENT, OK, USAGE
from tests import remembering
from tests.processes import answer
from tests.test_extensions import write_examples

BROKEN = Path(__file__).parent / "broken_methods.py"
# Words of the outcome, by the method that breaks the rule.
WORDS = {
    "tower_elsewhere": "no attribute `tower`",
    "no_tower": "does not call the tower",
    "reads_item": r"needs values of tensors, as `\.item\(\)` does.*broken_methods.py, line \d+",
    "not_scalar": r"the shape \(8,\): it must be a scalar",
    "no_gradient": "has no gradient",
    "detached_tower": r"no gradient reaches \d+ parameters: tower\.",
    "sum_of_batch": "the mean loss of two processes is",
    "noise_of_rank": "the mean loss of two processes is",
    "not_finite": "the loss is nan",
    "holds_lambda": "the method or its target cannot be pickled",
    "keeps_count": "after a resume",
    "moves_frozen": "steps change average, which no checkpoint holds",
    "mean_over_tokens": "text_padding=",
}


@pytest.mark.minutes
def test_every_broken_rule_is_named(results: Path, tmp_path: Path) -> None:
    code, out = answer(tmp_path, "check", str(BROKEN), "--results", str(results))
    assert code == DISAGREEMENT
    tables = dict(re.findall(r"Method (\w+)\n(.*?)(?=\nMethod|\Z)", out, re.DOTALL))
    for method, words in WORDS.items():
        assert re.search(words, " ".join(tables[method].split())), tables[method]
    assert "ok" in tables["whole"]
    assert not set(tables["whole"].split()) & {"loss:", "Error"}


@pytest.mark.parametrize(
    ("verb", "method"),
    [("measure", "reads_item"), ("measure", "holds_lambda"), ("train", "detached_tower")],
)
def test_a_broken_rule_is_named_before_any_run(
    verb: str, method: str, results: Path, tmp_path: Path
) -> None:
    words = ("--extension", str(BROKEN), verb, f"{method}-tiny")
    folder = ("--out", str(tmp_path)) if verb == "train" else ("--results", str(results))
    code, text = answer(tmp_path, *words, *folder)
    assert code == USAGE
    assert re.search(f"error: {method}-tiny: .*{WORDS[method]}", text)
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["rotation", "simclr"])
def test_the_methods_of_the_docs_pass(name: str, results: Path, tmp_path: Path) -> None:
    write_examples(tmp_path)
    code, out = answer(tmp_path, "check", f"{name}.py", "--results", str(results))
    assert code == OK, out
    assert out.count(" ok") >= 5


def test_a_queue_must_be_equal_on_all_processes(results: Path, tmp_path: Path) -> None:
    path = Path(remembering.__file__)
    code, out = answer(tmp_path, "check", str(path), "--results", str(results))
    assert code == DISAGREEMENT
    passed, broken = re.split(r"Method \w+\n", out)[1:]
    assert passed.count(" ok") >= 5, out
    assert "leaves another buffer queue" in " ".join(broken.split())
    assert broken.count(" ok") >= 4


@pytest.mark.parametrize("content", ["", "EXTENSION = None", "import nowhere"])
def test_a_file_without_a_method_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.py"
    path.write_text(content, encoding="utf-8")
    code, text = answer(tmp_path, "check", str(path))
    assert code == USAGE
    assert len(text.strip().splitlines()) == 1
