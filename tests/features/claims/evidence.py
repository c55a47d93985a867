"""Records that meet the conditions of claims, made up."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from bench.environment.circumstances import Circumstances
from bench.experiment.config import Experiment, change
from bench.features.claims.claims import PaperClaim
from bench.records.record import BatchTrial, Branch, Record, Training, Transfer
from bench.records.scores import Score
from tests.reports.conftest import HERE
from tests.timed_runs import speed

A100 = replace(HERE, device="cuda", machine="NVIDIA A100-SXM4-80GB; Example CPU, 2 logical cores")
SHARDS = "/data/datacomp-1b"
TEST_IMAGES, GIB = 50_000, 2**30


def from_disk(experiment: Experiment) -> Experiment:
    """An experiment on shards, with their own captions."""
    return change(experiment, data=SHARDS, caption_lengths="pack")


def on_a100(records: Iterable[Record], machine: Circumstances = A100) -> list[Record]:
    """The same records as of an A100 that reads images from shards."""
    return [
        replace(one, circumstances=machine, experiment=None if one.experiment is None else from_disk(one.experiment))
        for one in records
    ]


def speed_records(claim: PaperClaim, logarithms: tuple[float, float], rounds: int = 5) -> list[Record]:
    """Timed runs of a claim's published pair, each with so many images per second as a logarithm."""
    found = [
        speed(one, log + 0.001 * (-1) ** number, 0.0, number)
        for number in range(rounds)
        for one, log in zip(claim.experiments_of(claim.experiments), logarithms, strict=True)
    ]
    return on_a100(found)


def trials(claim: PaperClaim, side: int, largest: int, smallest: int) -> list[Record]:
    """Trials of the largest batch that fits under the claim's limit and of the smallest that does not."""
    own, needs = claim.experiments_of(claim.experiments)[side], claim.conditions
    assert needs is not None
    assert needs.memory_gib is not None
    return [
        Record(
            comparison="trials",
            experiment=change(own, name=f"{own.name}[batch_size={size}]", batch_size=size),
            circumstances=replace(A100, processes=needs.processes or 1),
            measured=BatchTrial(limit_bytes=int(needs.memory_gib * GIB), fits=size == largest),
        )
        for size in (largest, smallest)
    ]


def tower_records(
    claim: PaperClaim, side: int, seed: int, right: Sequence[int], *, images: int | None = None, subject: str = ""
) -> list[Record]:
    """A training of a claim's experiment, and the scores of its tower by the claim's protocols: right answers of each.

    A tower that was not trained has no training.
    """
    needs, recipe = claim.conditions, claim.experiments_of(claim.experiments)[side]
    assert needs is not None
    experiment = change(from_disk(recipe), seed=seed)
    protocols = claim.protocols if len(right) > 1 else (claim.protocols[side],)
    seen = recipe.training.images if images is None else images
    scores = tuple(
        Score(
            task=claim.task,
            protocol=protocol,
            chosen=1.0,
            validation_accuracy=0.5,
            converged=True,
            correct="1" * number + "0" * (TEST_IMAGES - number),
            num_classes=needs.num_classes or 2,
            num_train=needs.num_train or 10,
            majority=0.5,
            label_share=claim.label_share,
        )
        for protocol, number in zip(protocols, right, strict=True)
    )
    processes = (needs.images_per_step or (1, 1))[side] // recipe.training.batch_size
    training = Training(
        trunk_losses=(1.0,),
        cooldown_losses=((1.0,),),
        branches=(Branch(images=max(1, seen), budgets=("equal images",), tower="tower.safetensors"),),
        seconds=1.0,
    )
    whole = Transfer(subject=subject or experiment.name, images=seen, budgets=(), scores=scores)
    comparison = f"{experiment.name}-{seed}"
    scored = Record(comparison=comparison, experiment=experiment, circumstances=A100, measured=whole)
    if subject:
        return [scored]
    trained = replace(scored, circumstances=replace(A100, processes=processes), measured=training)
    return [trained, scored]
