"""Coordination of the command lines that torchrun started: rank 0 announces runs, the other ranks follow.

They and their runs share a key-value store: that of torchrun's agent, or one that rank 0 opens if the agent's is
private. A command line imports torch only here, and only under torchrun.
"""

import math
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bench.environment.imports import uncollected_imports
from bench.environment.rank_info import RankInfo, restart_count, torchrun_env
from bench.orchestration.requests import AnyRequest

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

Child = subprocess.Popen[bytes]
POLL_SECONDS = 0.2  # between two reads of the store
GRACE_SECONDS = 20.0  # time for a run to end after it has ended on another rank
SHUTDOWN_SECONDS = 5.0  # maximum wait of rank 0 for the others at the end
CONNECT_TIMEOUT = timedelta(minutes=5)  # time for all command lines to connect


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A distributed run, which all ranks start."""

    number: int
    request: AnyRequest
    settings: dict[str, str]  # environment variables


@dataclass(slots=True)
class Coordinator:
    """The view of one command line on its torchrun."""

    rank_info: RankInfo
    store: "Store"
    is_stopping: bool = False  # waits end at once
    _announced: int = 0

    def announce(self, request: AnyRequest, settings: dict[str, str]) -> Announcement:
        """Announce a run to the other ranks."""
        request = replace(request, rendezvous_id=f"{_store_prefix()}, run {self._announced}")
        start = Announcement(number=self._announced, request=request, settings=settings)
        self.store.set(f"start {start.number}", msgspec.json.encode(start).decode())
        self._announced += 1
        return start

    def iter_announcements(self) -> Iterator[Announcement]:
        """Yield the runs that rank 0 announces, until it is done."""
        number = 0
        while not self.store.check(["end"]):
            if self.store.check([f"start {number}"]):
                yield msgspec.json.decode(self.store.get(f"start {number}"), type=Announcement)
                number += 1
            else:
                time.sleep(POLL_SECONDS)
        self.store.set(f"gone {self.rank_info.rank}", "")

    def supervise(self, child: Child, start: Announcement) -> tuple[bytes, bool]:
        """Return the output of this rank's run, and whether it was stopped because it had ended on another rank."""
        sent: bytes | None = msgspec.json.encode(start.request)
        deadline = math.inf
        while time.monotonic() < deadline:
            try:
                return child.communicate(sent, timeout=POLL_SECONDS)[0], False
            except subprocess.TimeoutExpired:
                sent = None
            if deadline == math.inf and any(self.store.check([ending]) for ending in self._exit_keys(start)):
                deadline = time.monotonic() + GRACE_SECONDS
        child.kill()
        return child.communicate()[0], True

    def publish_exit(self, start: Announcement, reason: str) -> None:
        """Publish that a run has ended on this rank, and the reason of a failure."""
        self.store.set(self._exit_keys(start)[self.rank_info.rank], reason)

    def failure_reason(self, start: Announcement) -> str:
        """Return the reasons of a failure once the run has ended on every rank, or time out for silent ranks."""
        self._wait_for_keys(self._exit_keys(start), 2 * GRACE_SECONDS)
        ranks_by_reason: dict[str, list[str]] = {}
        for rank, ending in enumerate(self._exit_keys(start)):
            reason = self.store.get(ending).decode() if self.store.check([ending]) else "did not report how it ended"
            ranks_by_reason.setdefault(reason, []).append(str(rank))
        return "; ".join(f"rank {', '.join(ranks)}: {reason}" for reason, ranks in ranks_by_reason.items() if reason)

    def shut_down(self) -> None:
        """End the other ranks, and wait until they have: torchrun stops all remaining ones when one fails."""
        with suppress(RuntimeError):  # the store is closed, and so are the other ranks
            self.store.set("end", "")
            self._wait_for_keys([f"gone {rank}" for rank in range(1, self.rank_info.world_size)], SHUTDOWN_SECONDS)

    def _wait_for_keys(self, keys: list[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_stopping and not self.store.check(keys) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _exit_keys(self, start: Announcement) -> list[str]:
        return [f"start {start.number} ended on {rank}" for rank in range(self.rank_info.world_size)]


@cache
def connect_coordinator() -> Coordinator | None:
    """Connect to the other command lines of this torchrun; None for a single process."""
    rank_info = torchrun_env()
    if rank_info.world_size == 1:
        return None
    with uncollected_imports():
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    agent_shares = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=rank_info.rank == 0 and not agent_shares, timeout=CONNECT_TIMEOUT)
    return Coordinator(rank_info, PrefixStore(_store_prefix(), store))


def _store_prefix() -> str:
    """Name this start of the command lines, because torchrun may restart them after a failure."""
    return f"bench, restart {restart_count()}"
