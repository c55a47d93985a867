"""A part of the verb `doctor`: the links between the ranks of a job, and what the ranks must have in common."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.cli.findings import DIFFERS, MISSING, Finding, finding_table, judge
from bench.console.console import DISAGREEMENT, FAILED_CASE, OK, PROGRAM
from bench.console.progress import Progress
from bench.console.tables import Table, print_tables
from bench.environment.cores import available_cores
from bench.environment.gpu_specs import GB
from bench.environment.rank_info import MIXED_MACHINES, torchrun_env
from bench.orchestration.preflight import begin_comparison
from bench.orchestration.requests import LinkRequest
from bench.orchestration.runner import Job, Runner
from bench.orchestration.torchrun import connect_coordinator
from bench.plan.collectives import DDP_BUCKET_BYTES
from bench.record import LinkSpeed, RankState, read_record

LINKS = "links"  # folder of the records in a results folder
EXPECTED_SECONDS = 15.0
MAX_CLOCK_DIFFERENCE = 1.0  # seconds; comparisons are named by the second of their start
MICRO = 1e-6


def check_ranks(results: Path, json_file: Path | None) -> int:
    """Measure the links and read the states of all ranks of this torchrun; print them, and keep the record."""
    folder, threads = results / LINKS, max(1, available_cores() // torchrun_env().local_world_size)
    comparison = begin_comparison(folder, "link")
    request = LinkRequest(results=str(folder), comparison=comparison, message_bytes=DDP_BUCKET_BYTES)
    runner = Runner(Progress(EXPECTED_SECONDS), connect_coordinator())
    runner.run([Job(request, "links and states of all ranks", EXPECTED_SECONDS)], threads=threads)
    if runner.failures:
        return FAILED_CASE
    link = read_record(request.paths[0]).measured
    assert isinstance(link, LinkSpeed)
    findings = [*judge_ranks(link.ranks)]
    print_tables([finding_table("Ranks of this job", findings), link_table(link, folder)], json_file)
    return DISAGREEMENT if {one.verdict for one in findings} & {DIFFERS, MISSING} else OK


def judge_ranks(ranks: Sequence[RankState]) -> Iterator[Finding]:
    """Judge the software, the clocks and the results folder of all ranks by those of rank 0."""
    nodes = list(dict.fromkeys(one.node for one in ranks))
    packages = [", ".join(map(" ".join, one.packages.items())) for one in ranks]
    yield Finding("processes", f"{len(ranks)} on {len(nodes)} nodes ({'; '.join(nodes)})")
    for what, values, advice in (
        ("packages", packages, "install equal ones on all nodes"),
        ("processors", [one.processors for one in ranks], f"the slowest sets the speed; {MIXED_MACHINES}=1 allows it"),
        ("commit", [one.commit for one in ranks], "update the checkouts of all nodes to one commit"),
    ):
        rank = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        other = "" if rank is None else f"; rank {rank} ({ranks[rank].node}): {values[rank]}"
        yield judge(what, f"{values[0]}{other}", advice, is_bad=rank is not None, verdict=DIFFERS)
    ahead = max((one.clock_ahead_seconds for one in ranks), key=abs)
    advice = "synchronise the clocks: comparisons are named by them"
    yield judge("clocks", f"{ahead:+.3f} s at most from rank 0's", advice, is_bad=abs(ahead) > MAX_CLOCK_DIFFERENCE)
    yield from _judge_results_folder(ranks)


def _judge_results_folder(ranks: Sequence[RankState]) -> Iterator[Finding]:
    delays = [one.visible_after_seconds for one in ranks]
    if unseen := list(dict.fromkeys(one.node for one in ranks if one.visible_after_seconds is None)):
        advice = (
            f"only {ranks[0].node} has records and checkpoints: name a shared folder, or requeue onto the same nodes"
        )
        yield Finding("results folder", f"a file of rank 0 is not seen on {'; '.join(unseen)}", MISSING, advice)
    else:
        slowest = max(delay for delay in delays if delay is not None)
        yield Finding("results folder", f"a file of rank 0 is seen on all nodes, after {slowest:.1f} s at most")
    unlocked = list(
        dict.fromkeys(one.node for one in ranks if one.visible_after_seconds is not None and not one.is_locked_out)
    )
    found = f"a lock of rank 0 does not hold on {'; '.join(unlocked)}" if unlocked else "a lock of rank 0 holds"
    yield judge("locks", found, "let one job at a time write to the folder", is_bad=bool(unlocked))


def link_table(link: LinkSpeed, folder: Path) -> Table:
    """Return the table of the links: the slowest rank, which a collective waits for, and the median."""
    rows = list[dict[str, object]]()
    for level, speed, latency, of_ranks in (
        ("within nodes", link.bytes_per_second, link.latency_seconds, [one.bytes_per_second for one in link.ranks]),
        (
            "between nodes",
            link.network_bytes_per_second,
            link.network_latency_seconds,
            [one.network_bytes_per_second for one in link.ranks],
        ),
    ):
        if speed is None or latency is None:
            continue
        speeds = [one / GB for one in of_ranks if one is not None]
        slowest = link.ranks[speeds.index(min(speeds))]
        row = {"link": level, "backend": link.backend, "GB/s per rank and direction": speed / GB}
        rows.append(row | {"median GB/s": median(speeds), "us per ring step": latency / MICRO, "slowest": slowest.node})
    return Table("Links", rows, f"A plan with them: {PROGRAM} plan NAMES --links {folder}")
