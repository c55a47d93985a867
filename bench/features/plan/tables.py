"""Tables of a plan. No torch here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.features.plan.collectives import collective_seconds, step_collectives
from bench.features.plan.model import (
    PUBLISHED_ERROR,
    Cluster,
    PlanCase,
    PlannedStep,
    TrainingCost,
)
from bench.tables.tables import Table

MS = 1000


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The plan of one experiment."""

    case: PlanCase
    is_measured: bool  # else the step is counted, at an assumed utilisation
    tokens_per_caption: float | None  # computed, padding included; None: the method reads no text
    step: PlannedStep
    cost: TrainingCost
    curve: Sequence[PlannedStep]
    largest_batch: int | None  # of one GPU, in its memory
    largest_batch_source: str


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row in which unknown figures, which are NaN, are None."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }


def plan_table(plans: Sequence[PlanResult], gpus: int, *, is_utilisation_given: bool) -> Table:
    """List the step and the cost of each experiment."""
    base = plans[0]
    rows = []
    for plan in plans:
        step = plan.step
        rows.append(
            {
                "experiment": plan.case.name,
                "basis": "measured" if plan.is_measured else "assumed",
                "tokens per caption": plan.tokens_per_caption,
                "images per step and GPU": step.images / gpus,
                "images per step": round(step.images),
                "data, ms": MS * step.data if plan.is_measured else None,
                "forward, ms": MS * step.forward,
                "backward, ms": MS * step.backward,
                "loss with further captions, ms": MS * step.extra_negatives_seconds,
                "optimizer, ms": MS * step.optimizer if plan.is_measured else None,
                "communication, ms": MS * step.comm_seconds,
                "hidden communication, ms": MS * step.hidden_seconds,
                "step, ms": MS * step.seconds,
                "images/s": step.images_per_second,
                f"images/s, times {base.case.name}'s": step.images_per_second
                / base.step.images_per_second,
                "hours": plan.cost.hours,
                "GPU-hours": plan.cost.gpu_hours,
                "price": plan.cost.price,
                "kWh of the GPUs": plan.cost.kwh,
                "largest batch per GPU": plan.largest_batch,
            }
        )
    notes = [
        "Tokens per caption: computed by the text tower, padding included.",
        "Further captions: of other GPUs, whose products the measured step does not include.",
        "'-': unknown, or not requested.",
    ]
    for plan in plans:
        is_too_large = (
            plan.largest_batch is not None and plan.step.images / gpus > plan.largest_batch
        )
        note = f"Largest batch of {plan.case.name}: {plan.largest_batch_source}."
        notes.append(f"{note} The planned batch is larger." if is_too_large else note)
    if any(math.isnan(plan.step.comm_seconds) for plan in plans):
        notes.append(
            "Communication is unknown for a method that does not set `communication` (docs/extending.md)."
        )
    if not base.is_measured:
        notes.append(
            "The step time is from an assumed utilisation, data and optimizer included: it is not a measurement."
        )
        if not is_utilisation_given:
            notes.append(PUBLISHED_ERROR)
        notes.append(
            "All experiments have this utilisation, and no cost is per step: by construction, images per GPU make no "
            "difference but in communication."
        )
    return Table.of_figures(
        f"Plan for {gpus:,} GPUs",
        [_without_nan(row) for row in rows],
        "\n".join(notes),
        is_transposed=True,
    )


def communication_table(plans: Sequence[PlanResult], cluster: Cluster) -> Table:
    """List the collectives of a step: the communication that each method needs."""
    rows = []
    for plan in plans:
        case = plan.case
        batch = plan.step.images / plan.step.gpus
        collectives = step_collectives(
            case.weights, case.sharding, case.bytes_per_parameter, batch, plan.step.gpus
        )
        rows += [
            {
                "experiment": case.name,
                "tensor": collective.name,
                "collective": collective.kind,
                "MB": collective.size / 1e6,
                "calls": collective.calls,
                "ms": MS * collective_seconds(collective, plan.step.gpus, cluster.links),
                "can be hidden by": collective.overlaps_with,
            }
            for collective in collectives
        ]
    return Table.of_figures(
        "Communication of a step", rows, "MB: of the full tensor. ms: of all calls, hidden or not."
    )


def curve_table(plans: Sequence[PlanResult]) -> Table:
    """List the steps of the curves."""
    rows = [
        {
            "experiment": plan.case.name,
            "GPUs": step.gpus,
            "images per step": round(step.images),
            "step, ms": MS * step.seconds,
            "further captions, ms": MS * step.extra_negatives_seconds,
            "communication, ms": MS * step.comm_seconds,
            "hidden communication, ms": MS * step.hidden_seconds,
            "communication, share": step.communication_share,
            "images/s": step.images_per_second,
            "of one alone": step.images_per_second / step.gpus / plan.curve[0].images_per_second,
        }
        for plan in plans
        for step in plan.curve
    ]
    note = "of one alone: images/s per GPU over those of a single GPU. communication, share: exposed, of the step."
    return Table.of_figures("As GPUs grow", [_without_nan(row) for row in rows], note)


def assumption_table(assumptions: Mapping[str, tuple[str, str]]) -> Table:
    """List the assumptions with their values and sources."""
    rows = [
        {"assumption": name, "value": value, "from": source}
        for name, (value, source) in assumptions.items()
    ]
    return Table.of_figures("Assumptions", rows)
