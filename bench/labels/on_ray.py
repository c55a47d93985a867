"""The same jobs on Ray Data, one row per shard. All machines of the cluster must see the same files and checkout."""

import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from bench.environment.commit import CHECKOUT
from bench.labels.labeller import Tally
from bench.labels.processes import Ended
from bench.labels.shard_job import LabelJob, Report, run_job


def run_jobs_on_ray(jobs: Sequence[LabelJob], report: Report) -> Iterator[Ended]:
    """Run jobs on a Ray cluster, or on a local one started here; yield each with its tally or its error."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise ValueError("--engine ray needs Ray: python -m pip install 'ray[data]'") from None
    if not jobs:
        return
    if not ray.is_initialized():
        checkout = {"env_vars": {"PYTHONPATH": str(CHECKOUT)}}
        ray.init(runtime_env=checkout, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_items([{"job": pickle.dumps(job)} for job in jobs], override_num_blocks=len(jobs))
    for row in rows.map(_run).iter_rows():
        job, ended = pickle.loads(row["ended"])  # noqa: S301 - written by `_run`
        report(ended.captions if isinstance(ended, Tally) else 0, job.size)
        yield job, ended


def _run(row: dict[str, Any]) -> dict[str, bytes]:
    job: LabelJob = pickle.loads(row["job"])  # noqa: S301 - written by `run_jobs_on_ray`
    ended: Tally | Exception
    try:
        ended = run_job(job)
    except (ValueError, OSError) as error:
        ended = error
    return {"ended": pickle.dumps((job, ended))}
