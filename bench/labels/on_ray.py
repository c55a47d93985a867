"""The same jobs on Ray Data: a row a shard, on every machine of the cluster. All must see the same files."""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.commit import CHECKOUT
from bench.labels.processes import Ended
from bench.labels.shard_job import Job, Report, one_by_one, run_job


def run_jobs_on_ray(jobs: Sequence[Job], report: Report) -> Iterator[Ended]:
    """Run jobs on a Ray cluster, or on one started here; yield each with its tally or why it failed."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise ValueError("--engine ray needs Ray: python -m pip install 'ray[data]'") from None
    if not ray.is_initialized():
        ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(CHECKOUT)}}, log_to_driver=False)
    rows = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=len(jobs)).map(_run)
    for row in rows.iter_rows():
        report(row["captions"], row["job"].size)
        yield row["job"], row["ended"]


def _run(row: dict[str, Any]) -> dict[str, Any]:
    job: Job = row["job"]
    try:
        tally = run_job(job, one_by_one(job), lambda _captions, _bytes: None)
    except (ValueError, OSError) as error:
        return {"job": job, "ended": error, "captions": 0}
    return {"job": job, "ended": tally, "captions": tally.captions}
