"""A part of the verb `doctor`: the links between the ranks of a job, which `plan --links` reads."""

from pathlib import Path

from bench.console.console import FAILED_CASE, OK, PROGRAM
from bench.console.tables import print_tables
from bench.orchestration.preflight import reserve_comparison_name
from bench.orchestration.runner import Runner
from bench.orchestration.runs import Run
from bench.records.record import DDP_BUCKET_BYTES, AllReduceSpeed, read_record, record_path
from bench.tables.formats import GB
from bench.tables.tables import Table

LINKS = "links"  # folder of the records in a results folder
MICRO = 1e-6


def measure_link_speed(results: Path, launch: str, json_file: Path | None) -> int:
    """Time all-reduces between the ranks that `launch` starts, and print the table; return the exit code."""
    folder = results.resolve() / LINKS
    comparison = reserve_comparison_name(folder, "link")
    path = record_path(folder, comparison, "link")
    run = Run(
        function="bench.measure.link_speed:measure_links",
        label="links",
        results=str(folder),
        comparison=comparison,
        files=(str(path),),
        arguments={"message_bytes": DDP_BUCKET_BYTES},
        is_distributed=True,
    )
    Runner(launch=launch).run([run], threads=1)
    if not run.is_done:
        return FAILED_CASE
    link = read_record(path).measured
    assert isinstance(link, AllReduceSpeed)
    rows = []
    for level, speed, latency in (
        ("within nodes", link.bytes_per_second, link.latency_seconds),
        ("between nodes", link.network_bytes_per_second, link.network_latency_seconds),
    ):
        if speed is not None and latency is not None:
            figures = {"bus bandwidth, GB/s": speed / GB, "us per step": latency / MICRO}
            rows.append({"link": level, "backend": link.backend} | figures)
    note = "Per rank and direction, of all-reduces. Steps: of a ring within nodes, of a tree between them.\n"
    note += f"A plan with them: {PROGRAM} plan NAMES --links {folder}"
    print_tables([Table.from_dicts("Links", rows, note)], json_file)
    return OK
