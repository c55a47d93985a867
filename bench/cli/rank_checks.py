"""A part of the verb `doctor`: the links between the ranks of a job, and what the ranks must have in common."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cli.findings import DIFFERS, DISTURBS, MISSING, UNKNOWN, Finding, finding_table, make_finding
from bench.console.console import DISAGREEMENT, FAILED_CASE, OK, PROGRAM
from bench.console.progress import Progress
from bench.console.tables import print_tables, write_tables
from bench.environment.cores import available_cores
from bench.environment.gpu_specs import GB
from bench.environment.rank_info import MIXED_MACHINES, torchrun_env
from bench.orchestration.preflight import reserve_comparison_name
from bench.orchestration.requests import LinkRequest, RankStatesRequest
from bench.orchestration.runner import Job, Runner
from bench.orchestration.torchrun import connect_coordinator
from bench.records.record import DDP_BUCKET_BYTES, LinkSpeed, RankState, RankStates, read_record
from bench.tables.tables import Table

LINKS = "links"  # folder of the records in a results folder
EXPECTED_SECONDS = 15.0
MAX_CLOCK_DIFFERENCE = 1.0  # seconds; comparisons are named by the second of their start
MICRO = 1e-6


def check_ranks(results: Path, json_file: Path | None) -> int:
    """Read the states of all ranks of this torchrun, and measure the links; print both, and keep the records."""
    folder, threads = results / LINKS, max(1, available_cores() // torchrun_env().local_world_size)
    results_folder, name = str(folder), reserve_comparison_name(folder, "link")
    states = RankStatesRequest(results=results_folder, comparison=name)
    link = LinkRequest(results=results_folder, comparison=name, message_bytes=DDP_BUCKET_BYTES)
    runner = Runner(Progress(2 * EXPECTED_SECONDS), connect_coordinator())
    tables, differs = list[Table](), False
    for job in (Job(states, "states of all ranks", EXPECTED_SECONDS), Job(link, "links", EXPECTED_SECONDS)):
        runner.run([job], threads=threads)
        if not job.is_done:
            continue
        measured = read_record(job.request.paths[0]).measured
        if isinstance(measured, RankStates):
            findings = [*judge_ranks(measured.ranks)]
            differs = bool({one.verdict for one in findings} & {DIFFERS, MISSING})
            tables.append(finding_table("Ranks of this job", findings))
        elif isinstance(measured, LinkSpeed):
            tables.append(link_table(measured, folder))
        print_tables(tables[-1:])
    if json_file is not None:
        write_tables(tables, json_file)
    return FAILED_CASE if runner.failures else DISAGREEMENT if differs else OK


def judge_ranks(ranks: Sequence[RankState]) -> Iterator[Finding]:
    """Judge the software, the clocks and the results folder of all ranks by those of rank 0."""
    nodes = list(dict.fromkeys(one.node for one in ranks))
    packages = [", ".join(map(" ".join, one.packages.items())) for one in ranks]
    other_processors = DISTURBS if os.environ.get(MIXED_MACHINES) == "1" else DIFFERS
    slowest = f"the slowest sets the speed of all; {MIXED_MACHINES}=1 allows it"
    yield Finding("processes", f"{len(ranks)} on {len(nodes)} nodes ({'; '.join(nodes)})")
    for check, values, advice, verdict in (
        ("packages", packages, "install equal ones on all nodes", DIFFERS),
        ("processors", [one.processors for one in ranks], slowest, other_processors),
        ("commit", [one.commit for one in ranks], "update the checkouts of all nodes to one commit", DIFFERS),
    ):
        rank = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        other = "" if rank is None else f"; rank {rank} ({ranks[rank].node}): {values[rank]}"
        yield make_finding(check, f"{values[0]}{other}", advice, is_bad=rank is not None, verdict=verdict)
    ahead = max((one.clock_ahead_seconds for one in ranks), key=abs)
    advice = "synchronise the clocks: records are sorted by them"
    yield make_finding(
        "clocks", f"{ahead:+.3f} s at most from rank 0's", advice, is_bad=abs(ahead) > MAX_CLOCK_DIFFERENCE
    )
    delays = [one.visible_after_seconds for one in ranks]
    unseen = list(dict.fromkeys(one.node for one in ranks if one.visible_after_seconds is None))
    found = f"a file of rank 0 is not seen on {'; '.join(unseen)}"
    if not unseen:
        found = f"a file of rank 0 is seen on all nodes, after {max(filter(None, delays), default=0.0):.1f} s at most"
    advice = f"only {ranks[0].node} has records and checkpoints, and no training resumes: name a shared folder"
    yield make_finding("results folder", found, advice, is_bad=bool(unseen), verdict=MISSING)
    unlocked = list(dict.fromkeys(one.node for one in ranks if one.sees_rank0_lock is False))
    unknown = list(dict.fromkeys(one.node for one in ranks if one.sees_rank0_lock is None))
    if unknown and not unlocked:
        yield Finding("locks", f"not tried on {'; '.join(unknown)}", UNKNOWN)
        return
    found = f"a lock of rank 0 does not hold on {'; '.join(unlocked)}" if unlocked else "a lock of rank 0 holds"
    yield make_finding("locks", found, "let one job at a time write to it", is_bad=bool(unlocked), verdict=MISSING)


def link_table(link: LinkSpeed, folder: Path) -> Table:
    rows = list[dict[str, object]]()
    for level, speed, latency, slowest in (
        ("within nodes", link.bytes_per_second, link.latency_seconds, link.slowest_node),
        ("between nodes", link.network_bytes_per_second, link.network_latency_seconds, None),
    ):
        if speed is not None and latency is not None:
            row = {"link": level, "backend": link.backend, "bus bandwidth, GB/s": speed / GB}
            rows.append(row | {"us per step": latency / MICRO, "slowest node": slowest})
    note = "Per rank and direction, of all-reduces. Steps: of a ring within nodes, of a tree between them.\n"
    return Table.of_figures("Links", rows, f"{note}A plan with them: {PROGRAM} plan NAMES --links {folder}")
