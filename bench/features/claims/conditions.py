"""The conditions that a record must meet to decide a claim, and those that it misses."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence

from bench.environment.gpu_specs import find_gpu_spec
from bench.experiment.config import Experiment, differing_fields, fields_with, get_field
from bench.experiment.fields import PACK_DATA
from bench.experiment.recipes import DATACOMP_SYNSETS, DATACOMP_VOCABULARY
from bench.features.claims.claims import Conditions, Metric, PaperClaim
from bench.features.claims.judgement import CLAIM_ACCURACY_TOLERANCE
from bench.labels.vocabulary import vocabulary_field
from bench.records.record import AuthorsRun, BatchTrial, Record, Transfer
from bench.records.scores import Score
from bench.tables.formats import GIB

EQUAL_IMAGES = 0.01  # largest relative difference of images seen from the recipe's, of steps that are no whole number
# Fields in which a run may differ from the recipe, as they do not change what the metric measures.
_OWN = {*fields_with("as needed", "pace")}
_DURATION = {*fields_with("budget"), "subset"}
FREE_FIELDS: dict[Metric, set[str]] = {
    "cost": _OWN | _DURATION | {"simulated_global_batch"},
    "largest batch": _OWN | _DURATION | {*fields_with("by batch")},
    "accuracy": _OWN | {*fields_with("same values")},
}


def describe_conditions(claim: PaperClaim) -> list[str]:
    """Return the conditions of a claim in words."""
    needs = claim.conditions
    if needs is None:
        return []
    free = ", ".join(sorted(FREE_FIELDS[claim.metric] - ({"head_rows"} if needs.head_rows is not None else set())))
    texts = {
        f"GPU: {'any' if needs.device == 'cuda' else needs.device}": needs.device,
        f"processes, one a device: {needs.processes}": needs.processes,
        "images are read from shards on disk, not from memory": needs.loading == "disk",
        f"memory limit: {needs.memory_gib} GiB": needs.memory_gib,
        f"rows of CatLIP's classifier: {needs.head_rows}": needs.head_rows,
        f"training data: a path with {needs.data!r}, which does not prove what is in it": needs.data,
        "images seen in training: those of the recipe": claim.metric == "accuracy",
        f"images per step on all devices: {_pair(needs.images_per_step)}": needs.images_per_step,
        f"the task: {_task(needs)}": needs.num_classes,
        f"the baseline's accuracy: within a point of {needs.baseline_accuracy} %": needs.baseline_accuracy,
        f"a rejection: runs of the authors' code ({needs.code})": needs.code,
        "no disturbance by other work on the machine": claim.metric == "cost",
        f"settings: those of the recipes; free are {free}": True,
    }
    return [text for text, is_needed in texts.items() if is_needed]


def unmet_conditions(claim: PaperClaim, recipe: Experiment, record: Record) -> list[str]:
    """Return the conditions of a claim that a record of a run of a recipe misses: what it has and what is needed."""
    needs, run = claim.conditions, record.experiment
    assert needs is not None
    assert run is not None
    return [*_unmet_circumstances(needs, run, record), *_unmet_setting_conditions(claim, recipe, run, record)]


def unmet_training_conditions(
    claim: PaperClaim, recipe: Experiment, side: int, record: Record, trainings: Sequence[Record]
) -> list[str]:
    """Return the conditions that the training of a scored tower misses; `side` is 0 for the baseline, 1 for the other.

    The number of processes is that of the training's own record.
    """
    needs, run, scored = claim.conditions, record.experiment, record.measured
    assert needs is not None
    assert run is not None
    assert isinstance(scored, Transfer)
    missed = []
    if abs(scored.images / recipe.training.images - 1) > EQUAL_IMAGES:
        missed.append(
            _describe_difference(f"images seen by {recipe.method}", f"{scored.images:,}", f"{recipe.training.images:,}")
        )
    if needs.images_per_step is not None:
        own = [one.circumstances.processes for one in trainings if one.experiment == run]
        found = {processes * run.training.batch_size for processes in own}
        if found != {needs.images_per_step[side]}:
            text = " and ".join(f"{one:,}" for one in sorted(found)) or "no record of the training"
            missed.append(
                _describe_difference(f"images per step of {recipe.method}", text, f"{needs.images_per_step[side]:,}")
            )
    return missed


def unmet_task_conditions(claim: PaperClaim, scores: Iterable[Score]) -> list[str]:
    """Return the conditions on the task that scores of a tower miss."""
    needs = claim.conditions
    assert needs is not None
    missed = []
    for one in scores:
        figures = {
            "classes of the task": (one.num_classes, needs.num_classes),
            "training images of the task": (one.num_train, needs.num_train),
            "test images of the task": (len(one.correct), needs.num_test),
        }
        missed += [
            _describe_difference(name, f"{found:,}", f"{needed:,}")
            for name, (found, needed) in figures.items()
            if needed is not None and found != needed
        ]
    return missed


def unmet_baseline_conditions(claim: PaperClaim, accuracy: float) -> list[str]:
    """Return the condition on the baseline's accuracy, in %, if it is missed."""
    needed = claim.conditions.baseline_accuracy if claim.conditions else None
    if needed is None or abs(accuracy - needed) <= CLAIM_ACCURACY_TOLERANCE:
        return []
    return [_describe_difference("the baseline's accuracy", f"{accuracy:.1f} %", f"{needed} %")]


def _unmet_setting_conditions(claim: PaperClaim, recipe: Experiment, run: Experiment, record: Record) -> Iterator[str]:
    if isinstance(record.measured, AuthorsRun):
        if not re.fullmatch("[0-9a-f]{40}", record.measured.commit):
            yield _describe_difference(
                "commit of the authors' code", record.measured.commit, "a checkout without changes"
            )
        for key, text in record.measured.changed.items():
            yield f"{key}: {text}"
        return
    for field in sorted(differing_fields([recipe, run]).keys() - FREE_FIELDS[claim.metric]):
        yield _describe_difference(f"{field} of {recipe.method}", get_field(run, field), get_field(recipe, field))


def _unmet_circumstances(needs: Conditions, run: Experiment, record: Record) -> Iterator[str]:
    where, spec = record.circumstances, find_gpu_spec(record.circumstances.machine)
    is_cuda = where.device == "cuda"
    if needs.device == "cuda" and not is_cuda:
        yield _describe_difference("device", where.device, "a GPU")
    elif needs.device not in ("", "cuda") and not (
        is_cuda and spec is not None and needs.device in spec.name_words.split()
    ):
        yield _describe_difference("GPU", where.machine.partition(";")[0] if is_cuda else "none", needs.device)
    if needs.processes is not None and where.processes != needs.processes:
        yield _describe_difference("processes", where.processes, needs.processes)
    if needs.loading == "disk" and run.input.data == PACK_DATA:
        yield _describe_difference("images", "from memory", "from shards on disk")
    if needs.data and needs.data not in run.input.data.lower():
        yield _describe_difference("training data", run.input.data, f"a path with {needs.data!r}")
    if needs.head_rows is not None and vocabulary_field(run) == "synset_vocabulary":
        rows = run.targets.head_rows or (
            DATACOMP_SYNSETS if run.targets.synset_vocabulary == DATACOMP_VOCABULARY else None
        )
        if rows != needs.head_rows:
            yield _describe_difference(
                "rows of the classifier", rows or f"those of {run.targets.synset_vocabulary}", needs.head_rows
            )
    if needs.memory_gib is not None and isinstance(record.measured, BatchTrial):
        limit = record.measured.limit_bytes / GIB
        if not math.isclose(limit, needs.memory_gib, rel_tol=EQUAL_IMAGES):
            yield _describe_difference("memory limit", f"{limit:.3g} GiB", f"{needs.memory_gib:g} GiB")


def _describe_difference(name: str, found: object, needed: object) -> str:
    return f"{name}: {found}, needed {needed}"


def _pair(values: tuple[int, int] | None) -> str:
    one, other = values or (0, 0)
    return f"{one:,}" if one == other else f"{one:,} and {other:,}"


def _task(needs: Conditions) -> str:
    counts = {"classes": needs.num_classes, "training images": needs.num_train, "test images": needs.num_test}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count is not None)
