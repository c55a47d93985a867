"""What a person can type is there: every protocol has a function, every task its own way to be loaded."""

from bench import catalog
from bench.transfer.score import PROTOCOLS
from bench.transfer.tasks.named_tasks import OF_THE_PACK, UNDER_ROOT


def test_every_protocol_that_is_named_has_a_function() -> None:
    assert list(PROTOCOLS) == list(catalog.PROTOCOLS)


def test_every_task_that_is_named_can_be_loaded() -> None:
    loaded = [catalog.TASKS, catalog.FOLDERS, catalog.DATA_SETS, OF_THE_PACK, UNDER_ROOT]
    names = [name for some in loaded for name in some]
    assert sorted(names) == sorted(catalog.KINDS)
    assert tuple(OF_THE_PACK) == catalog.SCENES


def test_every_task_has_a_protocol_that_is_taken_by_default() -> None:
    taken = {takes.kind for takes in catalog.PROTOCOLS.values() if takes.by_default}
    assert {*catalog.KINDS.values()} == taken
