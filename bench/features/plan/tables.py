"""Tables of a plan. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.features.plan.collectives import collective_seconds
from bench.features.plan.interconnect import Interconnect
from bench.features.plan.model import LOSS_SHARE, OVERLAP, PlanInputs, PlannedStep
from bench.tables.tables import Table

MS = 1000
ASSUMED_NOTE = (
    "The step time is from an assumed utilisation, data and optimizer included: it is not a measurement.\n"
    "All experiments have this utilisation, and no cost is per step: by construction, images per GPU make no "
    "difference but in communication."
)

MODEL_ASSUMPTIONS = {
    "communication of gradients and weights": f"hidden behind {OVERLAP:.0%} of forward and backward",
    "communication of features": "not hidden: the loss waits for it",
    "loss with further captions": f"at {LOSS_SHARE:.0%} of the peak of its precision",
    "computation": "proportional to the number of images",
    "not modelled": "waiting for slow GPUs and for data, stalls, restarts, scoring",
}


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The plan of one experiment, with what its table shows."""

    inputs: PlanInputs
    step: PlannedStep
    is_measured: bool  # else the step is counted, at an assumed utilisation
    tokens_per_caption: float | None  # computed, padding included; None: the method reads no text
    images: int  # of the training
    max_images_per_gpu: int | None  # largest batch in the memory of one GPU; None: unknown


def plan_table(plans: Sequence[PlanResult], price: float | None, note: str) -> Table:
    """Return the table of each experiment's step and cost; `price` is per GPU-hour, `note` is on the step times."""
    base = plans[0]
    rows = []
    for plan in plans:
        step = plan.step
        hours = plan.images / step.images_per_second / 3600
        gpu_hours = step.num_gpus * hours
        relative_speed = step.images_per_second / base.step.images_per_second
        row = {
            "experiment": plan.inputs.name,
            "basis": "measured" if plan.is_measured else "assumed",
            "tokens per caption": plan.tokens_per_caption,
            "images per step and GPU": plan.inputs.images_per_gpu,
            "images per step": round(step.num_images),
            "data, ms": MS * step.data_seconds if plan.is_measured else None,
            "forward, ms": MS * step.forward_seconds,
            "backward, ms": MS * step.backward_seconds,
            "loss with further captions, ms": MS * step.extra_negatives_seconds,
            "optimizer, ms": MS * step.optimizer_seconds if plan.is_measured else None,
            "communication, ms": MS * step.communication_seconds,
            "hidden communication, ms": MS * step.hidden_communication_seconds,
            "step, ms": MS * step.seconds,
            "images/s": step.images_per_second,
            f"images/s, times {base.inputs.name}'s": relative_speed,
            "hours": hours,
            "GPU-hours": gpu_hours,
            "price": None if price is None else price * gpu_hours,
            "largest batch per GPU": plan.max_images_per_gpu,
        }
        rows.append(row)
    notes = [
        "Tokens per caption: computed by the text tower, padding included.",
        "Further captions: of other GPUs, whose products the measured step does not include.",
        "Largest batch: estimated from a memory record of one GPU, which `measure` writes.",
        "'-': unknown, or not requested.",
    ]
    if note:
        notes.append(note)
    title = f"Plan for {base.step.num_gpus:,} GPUs"
    return Table.from_dicts(title, rows, "\n".join(notes), is_transposed=True)


def communication_table(plans: Sequence[PlanResult], links: Interconnect) -> Table:
    """Return the table of the collectives of each experiment's step, with their milliseconds over the links."""
    rows = []
    for plan in plans:
        num_gpus = plan.step.num_gpus
        for collective in plan.inputs.collectives(num_gpus):
            row = {
                "experiment": plan.inputs.name,
                "tensor": collective.name,
                "collective": collective.kind,
                "MB": collective.tensor_bytes / 1e6,
                "calls": collective.num_calls,
                "ms": MS * collective_seconds(collective, num_gpus, links),
                "can be hidden by": collective.hiding_phase,
            }
            rows.append(row)
    note = "MB: of the full tensor. ms: of all calls, hidden or not."
    return Table.from_dicts("Communication of a step", rows, note)


def describe_interconnect(links: Interconnect) -> dict[str, str]:
    """Return the bandwidths of the links and their source, as a row of `assumption_table`."""
    within = f"{links.link_bytes_per_second / 1e9:.4g} GB/s within {links.gpus_per_node} GPUs"
    between = f"{links.network_bytes_per_second / 1e9:.4g} GB/s between nodes"
    return {"links, per GPU and direction": f"{within}, {between} ({links.source})"}


def assumption_table(assumptions: Mapping[str, str]) -> Table:
    """Return the table of the assumptions, given as texts by name."""
    rows = [{"assumption": name, "value": value} for name, value in assumptions.items()]
    return Table.from_dicts("Assumptions", rows)
