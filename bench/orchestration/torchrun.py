"""Coordination of the command lines that torchrun started: rank 0 announces runs, the other ranks follow.

They and their runs share a key-value store: that of torchrun's agent, or one that rank 0 opens if the agent's is
private. A command line imports torch only here, and only under torchrun.
"""

import math
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bench.environment.circumstances import LOADED_EXTENSIONS, sources_digest
from bench.environment.imports import imports_without_gc
from bench.environment.rank_info import RankInfo, restart_count, torchrun_env
from bench.environment.variables import DEFAULT_WATCHDOG_SECONDS, WATCHDOG_SECONDS, read_seconds_variable
from bench.orchestration.request_base import Request, decode_request

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

Child = subprocess.Popen[bytes]
POLL_SECONDS = 0.2  # between two reads of the store
GRACE_SECONDS = 20.0  # time for a run to end after it has ended on another rank, and for command lines to end
HEARTBEAT_SECONDS = 1.0  # between two signs of life of rank 0
CONNECT_TIMEOUT = timedelta(minutes=5)  # time for all command lines to connect


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A distributed run, which all ranks start."""

    number: int
    content: msgspec.Raw  # of the request, as JSON
    settings: dict[str, str]  # environment variables

    @property
    def request(self) -> Request:
        """The request of the run; ValueError if its kind is not known here."""
        return decode_request(bytes(self.content))


class RankCommand(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments and the code of a rank's command line, which must equal those of rank 0."""

    arguments: list[str]
    sources: str  # digest of the checkout's files, and those of extensions


@dataclass(slots=True)
class RunCoordinator:
    """The view of one command line on its torchrun."""

    rank_info: RankInfo
    store: "Store"
    is_stopping: bool = False  # waits end at once
    _announced: int = 0
    _is_ending: threading.Event = field(default_factory=threading.Event)
    _heart: threading.Thread | None = None

    def publish_command(self, arguments: Sequence[str]) -> None:
        """Publish what this command line was started with."""
        extensions = (f"extension {name}: {source}" for name, source in sorted(LOADED_EXTENSIONS.items()))
        own = RankCommand(arguments=[*arguments], sources=", ".join([sources_digest(), *extensions]))
        self.store.set(f"inputs {self.rank_info.rank}", msgspec.json.encode(own).decode())

    def require_equal_commands(self) -> None:
        """Wait for all ranks; ValueError names those with other arguments or sources than rank 0."""
        keys = [f"inputs {rank}" for rank in range(self.rank_info.world_size)]
        self._wait_for_keys(keys, CONNECT_TIMEOUT.total_seconds())
        if absent := [str(rank) for rank, key in enumerate(keys) if not self.store.check([key])]:
            raise ValueError(f"rank {', '.join(absent)} did not start within {CONNECT_TIMEOUT}: start all nodes")
        first, *others = (msgspec.json.decode(self.store.get(key), type=RankCommand) for key in keys)
        ranks_by_difference: dict[str, list[str]] = {}
        for rank, other in enumerate(others, start=1):
            for difference in _describe_differences(first, other):
                ranks_by_difference.setdefault(difference, []).append(str(rank))
        if ranks_by_difference:
            found = "; ".join(f"rank {', '.join(ranks)} has {text}" for text, ranks in ranks_by_difference.items())
            raise ValueError(f"{found}: start all ranks by the same command, from equal checkouts")

    def start_heartbeat(self) -> None:
        """Show the other ranks until `shut_down` that this command line, rank 0's, is not stopped."""

        def beat() -> None:
            with suppress(RuntimeError):  # the store is closed
                while not self._is_ending.wait(HEARTBEAT_SECONDS):
                    self.store.add("heartbeats", 1)

        self._heart = threading.Thread(target=beat, daemon=True)
        self._heart.start()

    def unfinished_ranks(self) -> str:
        """Return which ranks have not reported the end of the last run, as of a stopped command line; empty if none."""
        keys = self._exit_keys(self._announced - 1) if self._announced else []
        return ", ".join(str(rank) for rank, key in enumerate(keys) if not self.store.check([key]))

    def announce(self, request: Request, settings: dict[str, str]) -> Announcement:
        request = replace(request, rendezvous_id=f"{_store_prefix()}, run {self._announced}")
        content = msgspec.Raw(msgspec.json.encode(request))
        start = Announcement(number=self._announced, content=content, settings=settings)
        self.store.set(f"start {start.number}", msgspec.json.encode(start).decode())
        self._announced += 1
        return start

    def iter_announcements(self) -> Iterator[Announcement]:
        """Yield the runs that rank 0 announces, until it is done; ValueError if rank 0 is silent for too long."""
        number, heartbeats, silent_polls = 0, 0, 0
        longest = read_seconds_variable(WATCHDOG_SECONDS) or DEFAULT_WATCHDOG_SECONDS
        while not self.store.check(["end"]):
            if self.store.check([f"start {number}"]):
                yield msgspec.json.decode(self.store.get(f"start {number}"), type=Announcement)
                number += 1
            else:
                time.sleep(POLL_SECONDS)
            before, heartbeats = heartbeats, self.store.add("heartbeats", 0)
            silent_polls = 0 if heartbeats != before else silent_polls + 1
            if silent_polls * POLL_SECONDS > longest:  # polls, because this process may have been stopped as well
                raise ValueError(f"the command line of rank 0 was silent for {longest:g} s, as if stopped: start again")
        self.store.set(f"gone {self.rank_info.rank}", "")

    def supervise(self, child: Child, start: Announcement) -> tuple[bytes, bool]:
        """Return the output of this rank's run, and whether it was stopped because it had ended on another rank."""
        sent: bytes | None = bytes(start.content)
        deadline = math.inf
        while time.monotonic() < deadline:
            try:
                return child.communicate(sent, timeout=POLL_SECONDS)[0], False
            except subprocess.TimeoutExpired:
                sent = None
            if deadline == math.inf and any(self.store.check([ending]) for ending in self._exit_keys(start.number)):
                deadline = time.monotonic() + GRACE_SECONDS
        child.kill()
        return child.communicate()[0], True

    def publish_exit(self, start: Announcement, reason: str) -> None:
        """Publish that a run has ended on this rank, and the reason of a failure."""
        self.store.set(self._exit_keys(start.number)[self.rank_info.rank], reason)

    def failure_reason(self, start: Announcement) -> str:
        """Return the reasons of a failure once the run has ended on every rank, or time out for silent ranks."""
        self._wait_for_keys(self._exit_keys(start.number), 2 * GRACE_SECONDS)
        ranks_by_reason: dict[str, list[str]] = {}
        for rank, ending in enumerate(self._exit_keys(start.number)):
            reason = self.store.get(ending).decode() if self.store.check([ending]) else "did not report how it ended"
            ranks_by_reason.setdefault(reason, []).append(str(rank))
        return "; ".join(f"rank {', '.join(ranks)}: {reason}" for reason, ranks in ranks_by_reason.items() if reason)

    def shut_down(self) -> str:
        """End the other ranks; return which have not ended in time, as stopped ones, for torchrun would wait for them.

        torchrun stops all remaining ranks when one fails.
        """
        self._is_ending.set()
        if self._heart is not None:
            self._heart.join()
        with suppress(RuntimeError):  # the store is closed, and so are the other ranks
            self.store.set("end", "")
            keys = {str(rank): f"gone {rank}" for rank in range(1, self.rank_info.world_size)}
            self._wait_for_keys([*keys.values()], GRACE_SECONDS)
            return ", ".join(rank for rank, key in keys.items() if not self.store.check([key]))
        return ""

    def _wait_for_keys(self, keys: list[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_stopping and not self.store.check(keys) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _exit_keys(self, number: int) -> list[str]:
        return [f"start {number} ended on {rank}" for rank in range(self.rank_info.world_size)]


def _describe_differences(first: RankCommand, other: RankCommand) -> Iterator[str]:
    """Describe in what a rank's command line differs from rank 0's."""
    if other.arguments != first.arguments:
        own, of_first = (
            shlex.join(word for word in one.arguments if word not in two.arguments) or "none of these"
            for one, two in ((other, first), (first, other))
        )
        yield f"other arguments than rank 0 ({own}; rank 0: {of_first})"
    if other.sources != first.sources:
        yield f"other code than rank 0 (digest {other.sources}; rank 0: {first.sources})"


@cache
def connect_coordinator() -> RunCoordinator | None:
    """Connect to the other command lines of this torchrun; None for a single process."""
    rank_info = torchrun_env()
    if rank_info.world_size == 1:
        return None
    with imports_without_gc():
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    agent_shares = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=rank_info.rank == 0 and not agent_shares, timeout=CONNECT_TIMEOUT)
    return RunCoordinator(rank_info, PrefixStore(_store_prefix(), store))


def _store_prefix() -> str:
    """Name this start of the command lines, because torchrun may restart them after a failure."""
    return f"bench, restart {restart_count()}"
