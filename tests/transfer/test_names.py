"""What a person can type is there: every protocol has a function, every task its own way to be loaded."""

from bench import subjects
from bench.transfer.named_tasks import OF_THE_PACK, UNDER_ROOT
from bench.transfer.protocols import PROTOCOLS


def test_every_protocol_that_is_named_has_a_function() -> None:
    assert list(PROTOCOLS) == list(subjects.PROTOCOLS)


def test_every_task_that_is_named_can_be_loaded() -> None:
    loaded = [subjects.TASKS, subjects.FOLDERS, subjects.DATA_SETS, OF_THE_PACK, UNDER_ROOT]
    names = [name for some in loaded for name in some]
    assert sorted(names) == sorted(subjects.KINDS)
    assert tuple(OF_THE_PACK) == subjects.SCENES


def test_every_task_has_a_protocol_that_is_taken_by_default() -> None:
    taken = {takes.kind for takes in subjects.PROTOCOLS.values() if takes.by_default}
    assert {*subjects.KINDS.values()} == taken
