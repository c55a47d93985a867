"""What a person can type is there: functions that are named exist, and every kind of labels has a protocol."""

import pkgutil

import pytest

from bench.interfaces.catalog import PROTOCOLS, TASKS, LazyFunction, ScoringProtocol, TransferTask


@pytest.mark.parametrize("one", [*TASKS.values(), *PROTOCOLS.values()], ids=lambda one: one.name)
def test_task_or_protocol_names_a_function_that_is_there(
    one: TransferTask | ScoringProtocol,
) -> None:
    function = one.load if isinstance(one, TransferTask) else one.score
    assert isinstance(function, LazyFunction)
    assert callable(pkgutil.resolve_name(function.path))


def test_every_task_has_a_default_protocol() -> None:
    taken = {protocol.label_kind for protocol in PROTOCOLS.values() if protocol.is_default}
    assert {task.label_kind for task in TASKS.values()} == taken
