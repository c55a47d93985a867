"""What a person can type is there: every protocol has a function, every task its own way to be loaded."""

from bench import catalog
from bench.transfer.score import PROTOCOLS
from bench.transfer.tasks.named_tasks import OF_THE_PACK, UNDER_ROOT


def test_every_protocol_name_has_a_function() -> None:
    assert list(PROTOCOLS) == list(catalog.PROTOCOLS)


def test_every_task_name_has_a_loader() -> None:
    loaded = [catalog.PACK_TASKS, catalog.FOLDERS, catalog.DATA_SETS, OF_THE_PACK, UNDER_ROOT]
    names = [name for some in loaded for name in some]
    assert sorted(names) == sorted(catalog.TASK_KINDS)
    assert tuple(OF_THE_PACK) == catalog.SCENES


def test_every_task_has_a_default_protocol() -> None:
    taken = {takes.kind for takes in catalog.PROTOCOLS.values() if takes.is_default}
    assert {*catalog.TASK_KINDS.values()} == taken
