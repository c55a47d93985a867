"""A plan as tables. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.console.tables import Table
from bench.plan.collectives import collectives_of, seconds_of
from bench.plan.model import AS_GPUS_GROW, LARGEST, Case, Cluster, Cost, Step, bound_from, slower_from
from bench.plan.published import POINTS, Latencies, computing, predicted_rate

SLOWER = 0.1
MS = 1000


@dataclass(frozen=True, slots=True)
class Planned:
    """What is planned for one experiment."""

    case: Case
    basis: str  # "measured" or "assumed"
    step: Step
    cost: Cost
    steps: Sequence[Step]  # the curve
    largest: tuple[int | None, str]  # batch on one device, and how it is known


def plan_table(plans: Sequence[Planned], gpus: int) -> Table:
    """Answer: the step, and what the images cost."""
    base = plans[0]
    rows = [
        {
            "experiment": one.case.name,
            "step": one.basis,
            "images a step of each": one.step.images / gpus,
            "images a step of all": round(one.step.images),
            "data, ms": None if one.basis == "assumed" else MS * one.step.data,
            "forward, ms": MS * one.step.forward,
            "backward, ms": MS * one.step.backward,
            "loss with further captions, ms": MS * one.step.further,
            "optimizer, ms": None if one.basis == "assumed" else MS * one.step.optimizer,
            "communication, ms": MS * one.step.sent,
            "of it hidden, ms": MS * one.step.hidden,
            "step, ms": MS * one.step.seconds,
            "images/s": one.step.images_per_second,
            f"images/s, times {base.case.name}'s": one.step.images_per_second / base.step.images_per_second,
            "hours": one.cost.hours,
            "GPU-hours": one.cost.gpu_hours,
            "price": one.cost.price,
            "kWh of the GPUs": one.cost.kwh,
            "largest batch of each": one.largest[0],
            f"over {SLOWER:.0%} slower a GPU from": slower_from(one.steps, SLOWER),
            "bound by communication from": bound_from(one.steps),
        }
        for one in plans
    ]
    note = (
        "Further captions: of all that a contrastive loss compares, those whose products are not in the time above.\n"
        f"Slower: than one GPU alone. Bound by communication: it takes more than half of the step. '-': not up to "
        f"{LARGEST:,} GPUs, not known, or not asked."
    )
    for one in plans:
        largest, how = one.largest
        too_large = " The planned one is larger." if largest is not None and one.step.images / gpus > largest else ""
        note += f"\nlargest batch of {one.case.name}: {how}.{too_large}"
    if any(one.basis == "assumed" for one in plans):
        note += "\nThe step is of an assumed utilisation, data and optimizer in it: an assumption, no evidence."
    return Table(f"Plan for {gpus:,} GPUs", rows, note, turned=True)


def curve_table(plans: Sequence[Planned]) -> Table:
    """List every step of the curves."""
    rows = [
        {
            "experiment": one.case.name,
            "GPUs": step.gpus,
            "images a step": round(step.images),
            "step, ms": MS * step.seconds,
            "further captions, ms": MS * step.further,
            "communication, ms": MS * step.sent,
            "of it hidden, ms": MS * step.hidden,
            "communication, share": step.communication_share,
            "images/s": step.images_per_second,
            "of one alone": step.images_per_second / step.gpus / one.steps[0].images_per_second,
        }
        for one in plans
        for step in one.steps
    ]
    note = "of one alone: images/s of each GPU over those of a single one. communication, share: what nothing hides."
    return Table(AS_GPUS_GROW, rows, note)


def sent_table(plans: Sequence[Planned], cluster: Cluster) -> Table:
    """List what is sent in a step."""
    rows: list[dict[str, Any]] = []
    for one in plans:
        case, step = one.case, one.step
        sent = collectives_of(case.weights, case.sharding, case.bytes_a_weight, step.images / step.gpus, step.gpus)
        rows += [
            {
                "experiment": case.name,
                "what": collective.what,
                "collective": collective.kind,
                "MB": collective.size / 1e6,
                "calls": collective.calls,
                "ms": MS * seconds_of(collective, step.gpus, cluster.links),
                "may hide behind": collective.behind,
            }
            for collective in sent
        ]
    return Table(
        "What is sent in a step", rows, "MB: of the whole tensor. ms: of all calls, before anything is hidden."
    )


def assumption_table(assumptions: Mapping[str, tuple[str, str]]) -> Table:
    """List what the answer rests on: each with its value, and where that is from."""
    rows = [{"assumption": what, "value": value, "from": source} for what, (value, source) in assumptions.items()]
    return Table("Assumptions", rows)


def published_table(utilisation: float | None, latencies: Latencies, overlap: float) -> Table:
    """Hold the plan against published trainings: each at the others' median utilisation, or all at one given."""
    rows, errors = [], []
    shares = [computing(point, latencies, overlap) for point in POINTS]
    for at, point in enumerate(POINTS):
        planned_at = utilisation or median([*shares[:at], *shares[at + 1 :]])
        rate, share = predicted_rate(point, planned_at, latencies, overlap)
        errors.append(rate / point.middle - 1)
        rows.append(
            {
                "source": point.source,
                "CLIP": point.model,
                "GPUs": f"{point.gpus} x {point.device.words}",
                "batch": point.batch,
                "checkpointed": "yes" if point.is_recomputed else "no",
                "images/s/GPU": f"{point.low:g}" if point.low == point.high else f"{point.low:g} to {point.high:g}",
                "its utilisation": point.utilisation,
                "computing": shares[at],
                "planned at": planned_at,
                "planned": rate,
                "error": errors[-1],
                "communication, share": share,
            }
        )
    inside = sum(abs(error) <= 1 / 4 for error in errors)
    note = (
        "its utilisation: of the whole step. computing: what is sent taken off by the model, where the batch is told; "
        f"each row is planned\nat {'the median of the others' if utilisation is None else 'what was given'}, with the "
        f"links of the machine it ran on and an overlap of {overlap:g}.\nerror: planned over published (of a range the "
        f"middle), less 1. {inside} of {len(rows)} lie within 25 %, the median is off by "
        f"{median(map(abs, errors)):.0%}:\none utilisation does not foretell a training, which its software and its "
        "loading set. Ratios of methods at one utilisation are ratios of FLOPs."
    )
    return Table("Published trainings of CLIP", rows, note)
