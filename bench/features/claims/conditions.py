"""The conditions that records must meet to decide a claim, each as a sentence and a function.

A function returns in words why a record does not meet its condition, or "" if it does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.environment.gpu_specs import find_gpu_spec
from bench.experiment.fields import PACK_DATA
from bench.features.claims.claims import SpeedClaim
from bench.records.record import Record, ReleasedRun, Speed
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


@dataclass(frozen=True, slots=True)
class ClaimCondition:
    """A condition that every record must meet to decide a claim."""

    description: str  # one or two sentences: what is required
    why_not_met: Callable[[SpeedClaim, Record], str]  # "": the record meets the condition


def list_unmet_conditions(claim: SpeedClaim, records: list[Record]) -> list[str]:
    """Return in words why records do not meet the conditions of a claim, each reason once."""
    reasons = []
    for condition in CONDITIONS:
        reasons += [condition.why_not_met(claim, record) for record in records]
    return list(dict.fromkeys(filter(None, reasons)))


def _why_not_released_code(_: SpeedClaim, record: Record) -> str:
    """Return which code was timed, if it is not CoreNet at CORENET_COMMIT."""
    run = record.measured
    if not isinstance(run, ReleasedRun):
        return f"code: this project's, needed {CORENET}"
    if (run.repository, run.commit) != (CORENET, CORENET_COMMIT):
        return f"code: {run.repository} at {run.commit}, needed {CORENET} at {CORENET_COMMIT}"
    return ""


def _why_not_released_file(claim: SpeedClaim, record: Record) -> str:
    """Return which configuration file CoreNet read, if it is not the experiment's released one; "" for our code."""
    run = record.measured
    if not isinstance(run, ReleasedRun):
        return ""
    is_baseline = record.experiment_name.startswith(claim.baseline)
    file = claim.released_files[0 if is_baseline else 1]
    if (run.file, run.file_sha256) == (file, CORENET_FILES[file]):
        return ""
    return f"file: {run.file} with SHA-256 {run.file_sha256[:12]}, needed {file} as released"


def _why_not_unchanged_config_file(_: SpeedClaim, record: Record) -> str:
    """Return the keys of the released file that a run changed."""
    run = record.measured
    changed = run.changed if isinstance(run, ReleasedRun) else {}
    return "; ".join(f"{key}: {text}" for key, text in changed.items())


def _why_not_one_a100(_: SpeedClaim, record: Record) -> str:
    """Return the device or the number of processes, if it is not one A100 with one process."""
    circumstances = record.circumstances
    spec = find_gpu_spec(circumstances.machine)
    if circumstances.device != "cuda":
        return f"GPU: none, needed {A100}"
    if spec is None or A100 not in spec.name.split():
        return f"GPU: {circumstances.machine.partition(';')[0]}, needed {A100}"
    if circumstances.processes != 1:
        return f"processes: {circumstances.processes}, needed 1"
    return ""


def _why_not_data_set_images(_: SpeedClaim, record: Record) -> str:
    """Return a reason if the images are of the shipped pack."""
    experiment = record.experiment
    if experiment is None or experiment.input.data == PACK_DATA:
        return "images: of the shipped pack, needed files of a data set"
    return ""


def _why_not_short_data_wait(_: SpeedClaim, record: Record) -> str:
    """Return the share of time in which the loop waited for batches, if it is above 5 % or unknown."""
    run = record.measured
    share = run.data_wait_share if isinstance(run, ReleasedRun | Speed) else None
    if share is None:
        return "waiting for data: not measured"
    if share > MAX_DATA_WAIT_SHARE:
        limit = format_percent(MAX_DATA_WAIT_SHARE, 0)
        return f"waiting for data: {format_percent(share, 1)} of the windows' time, needed at most {limit}"
    return ""


def _why_not_unthrottled(_: SpeedClaim, record: Record) -> str:
    """Return how often heat or hardware slowed the GPU, if it did or if that is unknown."""
    run = record.measured
    percent = run.throttled_percent if isinstance(run, ReleasedRun) else None
    if percent is None:
        return "slowdown of the GPU by heat or hardware: not read"
    if percent > 0:
        return f"slowdown of the GPU by heat or hardware: in {percent:.2g} % of the readings, needed none"
    return ""


CONDITIONS = (
    ClaimCondition(
        f"The authors' model, loss and trainer were timed: a checkout of {CORENET} at {CORENET_COMMIT} without "
        "changes. Images are loaded and labelled by this project.",
        _why_not_released_code,
    ),
    ClaimCondition(
        "No key of the released files that a step reads was changed.",
        _why_not_unchanged_config_file,
    ),
    ClaimCondition(f"The runs had one whole {A100}.", _why_not_one_a100),
    ClaimCondition(
        "The images are those of a data set's files (`--data`), not of the shipped pack. Whether the files were in the "
        "page cache is not recorded.",
        _why_not_data_set_images,
    ),
    ClaimCondition(
        f"In every run the loop waited for batches in at most {format_percent(MAX_DATA_WAIT_SHARE, 0)} of the windows' "
        "time.",
        _why_not_short_data_wait,
    ),
    ClaimCondition(
        "In every run NVML was read, and no reading says that heat or a hardware protection slowed the GPU.",
        _why_not_unthrottled,
    ),
    ClaimCondition(
        "Each run read the released file of its method, by name and SHA-256.",
        _why_not_released_file,
    ),
)
