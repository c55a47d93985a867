"""Command lines under torchrun: equal inputs are required, and one that is stopped blocks no job."""

from pathlib import Path

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from bench.cli import main
from bench.console.progress import Progress
from bench.environment.rank_info import RankInfo
from bench.environment.variables import WATCHDOG_SECONDS
from bench.orchestration import torchrun
from bench.orchestration.requests import SpeedRequest
from bench.orchestration.runner import Job, Runner
from bench.orchestration.torchrun import RunCoordinator
from tests.small import small

TRAIN = ["train", "clip-tiny", "--set", "seed=0"]


def coordinators(count: int) -> list[RunCoordinator]:
    store = HashStore()
    return [RunCoordinator(RankInfo(rank, count, rank, count), store) for rank in range(count)]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "GRACE_SECONDS", 0.1)


def test_ranks_with_other_arguments_or_code_are_refused_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = coordinators(5)
    for rank in ranks:
        rank.publish_command(TRAIN)
    ranks[0].require_equal_commands()
    for number in (1, 3):
        ranks[number].publish_command([*TRAIN[:-1], "seed=1"])
    monkeypatch.setattr(torchrun, "sources_digest", lambda: "other")
    ranks[2].publish_command(TRAIN)
    ranks[3].publish_command([*TRAIN[:-1], "seed=1"])
    with pytest.raises(ValueError, match="start all ranks by the same command, from equal checkouts") as refusal:
        ranks[0].require_equal_commands()
    assert "rank 1, 3 has other arguments than rank 0 (seed=1; rank 0: seed=0)" in str(refusal.value)
    assert "rank 2, 3 has other code than rank 0 (digest other; rank 0: " in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "other",
    [[], [*TRAIN, "--yes"], TRAIN[::-1], [*TRAIN, *TRAIN[2:]], [*TRAIN, "a\nb\u202e=1"], [*TRAIN, "x" * 2**20]],
    ids=len,
)
def test_rank_with_any_other_arguments_is_refused(other: list[str]) -> None:
    first, second = coordinators(2)
    first.publish_command(TRAIN)
    second.publish_command(other)
    with pytest.raises(ValueError, match="rank 1 has other arguments than rank 0"):
        first.require_equal_commands()


def test_rank_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "CONNECT_TIMEOUT", torchrun.CONNECT_TIMEOUT / 1000)
    ranks = coordinators(3)
    ranks[0].publish_command(TRAIN)
    ranks[1].publish_command(TRAIN)
    with pytest.raises(ValueError, match="rank 2 did not start within"):
        ranks[0].require_equal_commands()


@pytest.mark.usefixtures("brief")
def test_job_whose_command_line_is_stopped_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torchrun waits for a stopped process, unless another one fails."""
    first, second = coordinators(2)
    monkeypatch.setattr(main, "connect_coordinator", lambda: first)
    monkeypatch.setattr(main, "_run_verb", lambda *_: 0)
    assert main.dispatch(["measure", "clip-tiny"]) == 3
    assert capsys.readouterr().err.startswith("error: the command line of rank 1 does not end, as if stopped")
    assert [*second.iter_announcements()] == []
    assert main.dispatch(["measure", "clip-tiny"]) == 0


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [(["measure", "--help"], 0, "usage: "), (["list"], 2, "torchrun can start measure, train, doctor only")],
)
def test_only_rank_0_prints_and_the_others_end_with_it(
    arguments: list[str], code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, coordinator in enumerate(coordinators(2)):
        monkeypatch.setattr(main, "connect_coordinator", lambda coordinator=coordinator: coordinator)
        monkeypatch.setattr(main, "torchrun_env", lambda coordinator=coordinator: coordinator.rank_info)
        try:
            returned = main.dispatch(arguments)
        except SystemExit as end:
            returned = end.code
        assert returned == (0 if rank else code)
        printed = "".join(capsys.readouterr())
        assert (text in printed) if rank == 0 else not printed


@pytest.mark.usefixtures("brief")
def test_no_run_waits_for_a_rank_whose_command_line_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = coordinators(2)
    runner, started = Runner(Progress(1.0), first), list[str]()
    monkeypatch.setattr(Runner, "_start", lambda _self, request, *_, **__: started.append(request.kind) or "")
    jobs = [
        Job(SpeedRequest(results=str(tmp_path), comparison="c", experiment=small("clip"), round=round_), "a run", 1.0)
        for round_ in range(3)
    ]
    runner.run(jobs[:2], threads=1)
    assert started.count("speed") == 1
    assert runner.failures == [
        "a run: rank 1: did not report how it ended",
        "a run: the command line of rank 1 does not answer",
    ]
    second.store.set("start 0 ended on 1", "")  # it goes on
    runner.run(jobs[2:], threads=1)
    assert started.count("speed") == 2


@pytest.mark.usefixtures("brief")
def test_rank_ends_if_the_command_line_of_rank_0_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WATCHDOG_SECONDS, "1")
    monkeypatch.setattr(torchrun, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(torchrun, "HEARTBEAT_SECONDS", 0.01)
    first, second = coordinators(2)
    first.start_heartbeat()
    first.shut_down()
    first.store.delete_key("end")
    with pytest.raises(ValueError, match="the command line of rank 0 was silent for 1 s, as if stopped"):
        list(second.iter_announcements())
