"""Tests that only a GPU runs take experiments that are made when tests are collected, where a CPU makes them, too."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
BUILDERS = {"Experiment", "built", "replace", "small", "two_blocks"}
Functions = dict[str, ast.FunctionDef]


def functions_of(source: str) -> Functions:
    return {one.name: one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef)}


def needs_a_gpu(function: ast.FunctionDef) -> bool:
    marks = {ast.unparse(decorator) for decorator in function.decorator_list}
    return "pytest.mark.gpu" in marks or "cuda" in {argument.arg for argument in function.args.args}


def reachable(name: str, functions: Functions) -> set[str]:
    """Return the functions of a file that a function of it names, and those that these name."""
    found, left = {name}, [name]
    while left:
        named = {one.id for one in ast.walk(functions[left.pop()]) if isinstance(one, ast.Name)}
        new = named & functions.keys() - found
        found, left = found | new, [*left, *new]
    return found


def experiments_made_on_a_gpu_alone(source: str) -> Iterator[str]:
    """Yield the functions that make an experiment and are called on a GPU alone."""
    functions = functions_of(source)
    tests = [name for name in functions if name.startswith("test_")]
    on_a_gpu, on_a_cpu = (
        {
            one
            for name in tests
            if needs_a_gpu(functions[name]) == gpu
            for one in reachable(name, functions)
        }
        for gpu in (True, False)
    )
    for name in sorted(on_a_gpu - on_a_cpu):
        body = ast.Module(functions[name].body, [])  # collection makes the arguments of decorators
        calls = (one.func for one in ast.walk(body) if isinstance(one, ast.Call))
        if BUILDERS & {one.id for one in calls if isinstance(one, ast.Name)}:
            yield name


def test_experiments_of_tests_on_a_gpu_are_made_when_they_are_collected() -> None:
    found = {
        str(path.relative_to(TESTS)): names
        for path in TESTS.rglob("test_*.py")
        if "mark.gpu" in (source := path.read_text(encoding="utf-8"))  # also where a fixture has it
        and (names := [*experiments_made_on_a_gpu_alone(source)])
    }
    assert found == {}


def test_experiment_that_a_gpu_alone_would_make_is_found() -> None:
    source = """
def helper():
    return small("clip")

def shared():
    return small("clip")

@pytest.mark.gpu
def test_direct():
    replace(ONE, images=1)

def test_indirect(cuda):
    in_child(helper)
    shared()

def test_on_a_cpu(device):
    shared()
"""
    assert [*experiments_made_on_a_gpu_alone(source)] == ["helper", "test_direct"]
