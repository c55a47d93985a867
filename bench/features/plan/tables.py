"""Tables of a plan. No torch here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from bench.experiment.published import PUBLISHED_RUNS
from bench.features.plan.calibration import (
    CLUSTER,
    COVERAGE,
    GROUPINGS,
    PredictedUtilisation,
    predict_leaving_group_out,
    published_errors,
)
from bench.features.plan.collectives import collective_seconds, step_collectives
from bench.features.plan.inverse import CaseOnGpus, communication_factors, factor_range
from bench.features.plan.model import (
    MAX_GPUS,
    NO_STEP_COST,
    SCALING_TITLE,
    Cluster,
    PlanCase,
    PlannedStep,
    TrainingCost,
    first_communication_bound,
    first_slower_gpus,
)
from bench.features.plan.published import Latencies, fit_utilisations, predict_published_rate
from bench.tables.tables import Table

SLOWER = 0.1  # relative loss of throughput per GPU
MS = 1000


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The plan of one experiment."""

    case: PlanCase
    basis: str  # "measured" or "assumed"
    tokens_per_caption: float | None  # computed, padding included; None: the method reads no text
    step: PlannedStep
    cost: TrainingCost
    steps: Sequence[PlannedStep]  # the curve
    largest: tuple[int | None, str]  # largest batch of one device, and how it is known
    # step and cost at both ends of the interval of the utilisation; empty if it is measured or given
    ends: Sequence[tuple[PlannedStep, TrainingCost]] = ()

    @property
    def on_gpus(self) -> CaseOnGpus:
        """The case at the planned batch of each GPU."""
        return CaseOnGpus(replace(self.case, batch=self.step.images / self.step.gpus), self.step.gpus)


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row in which unknown figures, which are NaN, are None."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def plan_table(plans: Sequence[PlanResult], gpus: int) -> Table:
    """List the step and the cost of each experiment."""
    base, slower = plans[0], f"GPUs from which each is over {SLOWER:.0%} slower"
    rows = []
    for one in plans:
        step, cost, is_measured = one.step, one.cost, one.basis == "measured"
        rows.append(
            {
                "experiment": one.case.name,
                "basis": one.basis,
                "tokens per caption": one.tokens_per_caption,
                "images per step and GPU": step.images / gpus,
                "images per step": round(step.images),
                "data, ms": MS * step.data if is_measured else None,
                "forward, ms": MS * step.forward,
                "backward, ms": MS * step.backward,
                "loss with additional captions, ms": MS * step.extra_negatives_seconds,
                "optimizer, ms": MS * step.optimizer if is_measured else None,
                "communication, ms": MS * step.comm_seconds,
                "hidden communication, ms": MS * step.hidden_seconds,
                "step, ms": MS * step.seconds,
                "images/s": step.images_per_second,
                f"images/s, times {base.case.name}'s": step.images_per_second / base.step.images_per_second,
                "hours": cost.hours,
                "GPU-hours": cost.gpu_hours,
                "price": cost.price,
                "kWh of the GPUs": cost.kwh,
                "largest batch per GPU": one.largest[0],
                slower: first_slower_gpus(one.steps, SLOWER),
                "GPUs from which communication dominates": first_communication_bound(one.steps),
            }
        )
    note = (
        "Tokens per caption: computed by the text tower, padding included.\n"
        "Additional captions: those of a contrastive loss whose products the measured step does not include.\n"
        "Slower: than a single GPU. Communication dominates: exposed communication is more than half of the step.\n"
        f"'-': not up to {MAX_GPUS:,} GPUs, unknown, or not requested."
    )
    for one in plans:
        largest, how = one.largest
        is_too_large = largest is not None and one.step.images / gpus > largest
        note += f"\nLargest batch of {one.case.name}: {how}.{' The planned batch is larger.' if is_too_large else ''}"
    if any(math.isnan(one.step.comm_seconds) for one in plans):
        note += "\nCommunication is unknown for a method that does not set `communication` (docs/extending.md)."
    if any(one.basis == "assumed" for one in plans):
        note += "\nThe step time is from an assumed utilisation, data and optimizer included: it is not a measurement."
        note += f"\n{NO_STEP_COST}"
    return Table.of_figures(f"Plan for {gpus:,} GPUs", [*map(_without_nan, rows)], note, is_transposed=True)


def _describe_cluster_error() -> str:
    """Return the sentence with the error of a plan for a cluster that no published training ran on."""
    found = published_errors(CLUSTER)
    return (
        f"Trainings on a cluster that was left out of the fit are predicted with a median error of {found.median:.0%}, "
        f"{found.mean:.0%} in the mean."
    )


def interval_table(plans: Sequence[PlanResult]) -> Table:
    """List what depends on the utilisation, with its interval."""
    rows = []
    for one in plans:
        found = [
            {
                "images/s": step.images_per_second,
                "hours": cost.hours,
                "GPU-hours": cost.gpu_hours,
                "price": cost.price,
                "kWh of the GPUs": cost.kwh,
            }
            for step, cost in (*one.ends, (one.step, one.cost))
            if one.ends
        ]
        for name in found[-1] if found else ():
            values = [value for figures in found if (value := figures[name]) is not None]
            if values:
                ends = {"low": min(values), "predicted": values[-1], "high": max(values)}
                rows.append({"experiment": one.case.name, "figure": name, **ends})
    note = (
        f"Of {COVERAGE:.0%} of new trainings the utilisation is expected inside, as published ones scatter (plan "
        "--published).\nThe experiments of a plan share one utilisation, that of the first: the interval is not of "
        f"their ratio.\n{_describe_cluster_error()}"
    )
    return Table.of_figures(f"{COVERAGE:.0%} intervals", rows, note)


def factor_table(cases: Sequence[CaseOnGpus], cluster: Cluster) -> Table:
    """List the factor of communication in the ratio of each experiment to the first, by network and loss."""
    baseline, *others = cases
    rows, ranges = list[dict[str, Any]](), list[str]()
    for one in others:
        factors = communication_factors((baseline, one), cluster)
        rows += [
            {
                f"over {baseline.case.name}": one.case.name,
                "network, Gbit/s per node": found.node_gbits,
                "factor with our loss": found.own,
                "with the released loss": found.released,
            }
            for found in factors
        ]
        low, high = factor_range(factors)
        ranges.append(f"{one.case.name}: {low:.3f} to {high:.3f}.")
    note = (
        f"Factor: GPU-seconds of {baseline.case.name} over the other's, over that ratio without communication and "
        "without the loss's captions of other GPUs.\nOur loss gathers the captions, the released one the features of "
        "both modalities (open_clip, CoreNet; SigLIP's the captions, too).\n" + "\n".join(ranges)
    )
    return Table.of_figures("Factor of communication in the ratio", rows, note)


def curve_table(plans: Sequence[PlanResult]) -> Table:
    """List the steps of the curves."""
    rows = [
        {
            "experiment": one.case.name,
            "GPUs": step.gpus,
            "images per step": round(step.images),
            "step, ms": MS * step.seconds,
            "additional captions, ms": MS * step.extra_negatives_seconds,
            "communication, ms": MS * step.comm_seconds,
            "hidden communication, ms": MS * step.hidden_seconds,
            "communication, share": step.communication_share,
            "images/s": step.images_per_second,
            "of one alone": step.images_per_second / step.gpus / one.steps[0].images_per_second,
        }
        for one in plans
        for step in one.steps
    ]
    note = "of one alone: images/s per GPU over those of a single GPU. communication, share: exposed, of the step."
    return Table.of_figures(SCALING_TITLE, [*map(_without_nan, rows)], note)


def communication_table(plans: Sequence[PlanResult], cluster: Cluster) -> Table:
    """List the collectives of a step."""
    rows: list[dict[str, Any]] = []
    for one in plans:
        case, step = one.case, one.step
        batch = step.images / step.gpus
        collectives = step_collectives(case.weights, case.sharding, case.bytes_per_parameter, batch, step.gpus)
        rows += [
            {
                "experiment": case.name,
                "tensor": collective.name,
                "collective": collective.kind,
                "MB": collective.size / 1e6,
                "calls": collective.calls,
                "ms": MS * collective_seconds(collective, step.gpus, cluster.links),
                "can be hidden by": collective.overlaps_with,
            }
            for collective in collectives
        ]
    return Table.of_figures("Communication of a step", rows, "MB: of the full tensor. ms: of all calls, hidden or not.")


def assumption_table(assumptions: Mapping[str, tuple[str, str]]) -> Table:
    """List the assumptions with their values and sources."""
    rows = [{"assumption": what, "value": value, "from": source} for what, (value, source) in assumptions.items()]
    return Table.of_figures("Assumptions", rows)


def published_table(utilisation: float | None, latencies: Latencies, overlap: float) -> Table:
    """Compare predictions with published trainings, each from other clusters' or at a given utilisation."""
    rows, errors = list[dict[str, Any]](), list[float]()
    utilisations = fit_utilisations(latencies, overlap)
    if utilisation is None:
        predictions = predict_leaving_group_out(utilisations, GROUPINGS[CLUSTER][0])
    else:
        predictions = [PredictedUtilisation.given(utilisation)] * len(PUBLISHED_RUNS)
    for run, fitted, predicted in zip(PUBLISHED_RUNS, utilisations, predictions, strict=True):
        rate, share = predict_published_rate(run, predicted.value, latencies, overlap)
        errors.append(rate / run.midpoint - 1)
        rows.append(
            {
                "source": run.source,
                "cluster": run.cluster,
                "CLIP": run.model,
                "GPUs": f"{run.gpus} x {run.device.name_words}",
                "batch": run.batch,
                "checkpointed": "yes" if run.is_recomputed else "no",
                "images/s/GPU": f"{run.low:g}" if run.low == run.high else f"{run.low:g} to {run.high:g}",
                "utilisation": run.utilisation,
                "computing": fitted,
                "planned at": predicted.value,
                "low": predicted.low,
                "high": predicted.high,
                "planned": rate,
                "error": errors[-1],
                "communication, share": share,
            }
        )
    widest = max(run.high / run.low for run in PUBLISHED_RUNS)
    note = (
        "utilisation: of the whole step. computing: without the predicted communication, where the batch is known.\n"
        "error: planned over published (the middle of a range), minus 1, with the interconnect of the training's "
        f"machine and an overlap of {overlap:g}. The median error is {median(map(abs, errors)):.0%}.\n"
    )
    if utilisation is None:
        note += (
            "planned at: predicted from the rows of other clusters by size of the model, NeMo or open_clip, Hopper or "
            f"older; low, high: its {COVERAGE:.0%} interval.\n"
        )
    note += f"Trainings with equal settings differ by up to {widest:.2g} times."
    return Table.of_figures("Published trainings of CLIP", rows, note)


def error_table(latencies: Latencies, overlap: float) -> Table:
    """List the errors of the prediction for published trainings by what was left out of its fit."""
    rows = []
    for left_out, (_, plans) in GROUPINGS.items():
        found = published_errors(left_out, latencies, overlap)
        rows.append(
            {
                "left out": left_out,
                "groups": found.groups,
                "median error": found.median,
                "mean error": found.mean,
                f"in the {COVERAGE:.0%} interval": found.coverage,
                "the error of a plan for": plans,
            }
        )
    note = (
        "error: planned over published images/s, minus 1, without its sign, of each training predicted from those of "
        "the other groups.\nThe terms of NeMo and of Hopper rest on NeMo's trainings alone, that of Hopper on two: a "
        "prediction without them has neither term."
    )
    return Table.of_figures("Errors by what is left out", rows, note)
