"""The conditions that runs of the authors' code must meet to decide a claim."""

from collections.abc import Iterator, Mapping

from bench.environment.gpu_specs import find_gpu_spec
from bench.experiment.fields import PACK_DATA
from bench.features.claims.claims import SpeedClaim
from bench.records.record import Record, ReleasedRun
from bench.tables.formats import format_percent

MAX_DATA_WAIT_SHARE = 0.05  # of the windows' time
A100 = "A100"
CORENET = "apple/corenet"
CORENET_COMMIT = "1aa3acd17b7b02ba51889b648b1182845c4323eb"
# SHA-256 of the released files at this commit.
CORENET_FILES: Mapping[str, str] = {
    "projects/clip/clip_vit_base.yaml": "2789849b62f08f466936e4c4a9cf3fffbdd352af270c503520983cdf1427d20d",
    "projects/catlip/pretraining/vit_base.yaml": "821bf072d91007e2c22b1c2b44ceb29879d6d7a5952594ddfc6baf29eb58250c",
    "projects/range_augment/clip/clip_vit_huge.yaml": (
        "eece1351690528c41f13cdac56c0dd9c3ac55a0f027b593932771341d7ccd05c"
    ),
    "projects/catlip/pretraining/vit_huge.yaml": "5d6fe8229181c80af4528cd8993111ab81343df8076b448cd46bb7845ba1969d",
}
# What `_unmet_conditions` checks, as the verb `claim` prints it.
CONDITIONS = (
    (
        f"The authors' model, loss and trainer were timed: a checkout of {CORENET} at {CORENET_COMMIT} without "
        "changes. Images are loaded and labelled by this project."
    ),
    "Each run read the released file of its method, by name and SHA-256.",
    "No key of the released files that a step reads was changed.",
    f"The runs had one whole {A100}.",
    (
        "The images are those of a data set's files (`--data`), not of the shipped pack. Whether the files were in "
        "the page cache is not recorded."
    ),
    (
        f"In every run the loop waited for batches in at most {format_percent(MAX_DATA_WAIT_SHARE, 0)} of the "
        "windows' time."
    ),
    "In every run NVML was read, and no reading says that heat or a hardware protection slowed the GPU.",
)


def list_unmet_conditions(claim: SpeedClaim, records: list[Record]) -> list[str]:
    """Return in words which conditions the runs of the authors' code do not meet, each reason once."""
    reasons = dict[str, None]()
    for record in records:
        if isinstance(record.measured, ReleasedRun):
            reasons |= dict.fromkeys(_unmet_conditions(claim, record, record.measured))
    return list(reasons)


def _unmet_conditions(claim: SpeedClaim, record: Record, run: ReleasedRun) -> Iterator[str]:
    """Yield in words what a run misses, in the order of `CONDITIONS`."""
    if (run.repository, run.commit) != (CORENET, CORENET_COMMIT):
        yield f"code: {run.repository} at {run.commit}, needed {CORENET} at {CORENET_COMMIT}"
    is_baseline = record.experiment_name.startswith(claim.baseline)
    file = claim.released_files[0 if is_baseline else 1]
    if (run.file, run.file_sha256) != (file, CORENET_FILES[file]):
        yield f"file: {run.file} with SHA-256 {run.file_sha256[:12]}, needed {file} as released"
    for key, change in run.changed.items():
        yield f"{key}: {change}"
    circumstances = record.circumstances
    gpu = find_gpu_spec(circumstances.machine)
    if gpu is None or A100 not in gpu.name.split():
        yield f"GPU: {circumstances.machine.partition(';')[0]}, needed {A100}"
    if circumstances.processes != 1:
        yield f"processes: {circumstances.processes}, needed 1"
    if record.experiment is None or record.experiment.input.data == PACK_DATA:
        yield "images: of the shipped pack, needed files of a data set"
    wait_share = run.data_wait_share
    if wait_share is None or wait_share > MAX_DATA_WAIT_SHARE:
        share = "unknown share" if wait_share is None else format_percent(wait_share)
        limit = format_percent(MAX_DATA_WAIT_SHARE, 0)
        yield f"waiting for data: {share} of the windows' time, needed at most {limit}"
    throttled = run.throttled_percent
    if throttled is None:
        yield "slowdown of the GPU by heat or hardware: not read"
    elif throttled > 0:
        yield f"slowdown of the GPU by heat or hardware: in {throttled:.2g} % of the readings, needed none"
