"""Records -> the frames and names that the rest of the page is made of."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TypeVar

import msgspec
import pandas as pd

from bench.config import FIELDS, METHOD_NAMES, WITH_BATCH_SIZE, Experiment, MethodName, differing_fields
from bench.image_sizes import images_before, steps_for
from bench.measure.throughput import forward_backward_rate, images_per_second, images_per_step, model_flops_utilisation
from bench.record import PHASES, Failure, Fit, Measured, Memory, Record, Speed, Training, require_comparable
from reports.render.words import title_of

M = TypeVar("M", bound=Measured)
NAN = float("nan")
# Never in one column.
COUNTS = ("peak_allocated_bytes", "peak_reserved_bytes", "process_bytes", "peak_rss_bytes", "peak_tensor_bytes")
# What an experiment at another batch may differ in: the seed, too, for a size is timed whatever it is.
BY_BATCH = {"name", "seed", "images", "warmup_images", *WITH_BATCH_SIZE}
PHASE = "phase, ms: "  # before the name of a column that comes from `Speed.phase_seconds`
UTILISATION = "utilisation: "  # before the name of a column that comes from `Speed.utilisation`


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison's records, with the experiments in the order in which the page shows them."""

    name: str
    records: tuple[Record, ...]
    experiments: dict[str, Experiment]
    labels: dict[str, str]  # what an experiment is called in sentences and charts
    base: str | None  # the experiment that ratios are taken to
    incomparable: str | None  # why speeds may not be compared

    def of(self, kind: type[M]) -> list[tuple[Record, M]]:
        """Return the records that hold one kind of measurement."""
        return [(record, record.measured) for record in self.records if isinstance(record.measured, kind)]

    def label(self, subject: str) -> str:
        """Return a subject's name in sentences and charts; references have their own."""
        return self.labels.get(subject, subject)


def comparison_of(name: str, records: Sequence[Record]) -> Comparison:
    """Arrange one comparison's records."""
    found = sorted(
        (record.experiment for record in records if record.experiment is not None and _is_of_experiment(record)),
        key=lambda one: (_rank(one.method), one.name, one.seed),
    )
    experiments: dict[str, Experiment] = {}
    for experiment in found:
        experiments.setdefault(experiment.name, experiment)
    timed = [record for record in records if isinstance(record.measured, Speed)]
    names = {record.experiment.name for record in timed if record.experiment is not None}
    base = next((one for one in experiments if one in names), next(iter(experiments), None))
    return Comparison(name, tuple(records), experiments, _labels(experiments), base, _incomparable(timed))


def at_largest_batch(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Part the records of experiments at their largest batch under a memory limit, tries included, from all others.

    The two are compared apart: at equal batch, and each at its largest. An experiment whose own batch is the largest
    stands in both.
    """
    tried = {r.experiment.name for r in records if isinstance(r.measured, Fit) and r.experiment is not None}
    own = {r.experiment.name for r in records if isinstance(r.measured, Memory) and r.experiment is not None}

    def has(record: Record, names: set[str]) -> bool:
        return record.experiment is not None and record.experiment.name in names

    equal = [r for r in records if not has(r, tried - own) and not isinstance(r.measured, Fit)]
    largest = [r for r in records if has(r, tried) and isinstance(r.measured, (Speed, Fit))]
    return equal, largest


def speeds_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each timed run; what was not measured is missing.

    The device's peak is the largest that any run has found: one device has one, and on a CPU each run measures it.
    """
    speeds = comparison.of(Speed)
    peak = max((speed.peak_flops_per_second for _, speed in speeds if speed.peak_flops_per_second), default=NAN)
    return pd.DataFrame(
        [_speed_row(record.experiment, speed, peak) for record, speed in speeds if record.experiment is not None]
    )


def memory_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each memory run, its counts in columns of their own."""
    rows = [
        {
            "experiment": record.experiment.name,
            "batch_size": record.experiment.batch_size,
            **msgspec.structs.asdict(memory),
        }
        for record, memory in comparison.of(Memory)
        if record.experiment is not None
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(COUNTS, "Int64")) if rows else pd.DataFrame()


def losses_frame(comparison: Comparison, most: int = 120, of: str | None = None) -> pd.DataFrame:
    """Return the training losses, of one experiment or of all.

    At most so many points for the trunk, cool-downs at the same number of steps each.
    """
    rows = [
        {"experiment": one.name, "seed": one.seed, "part": part, "images": images, "loss": loss}
        for record, training in comparison.of(Training)
        if (one := record.experiment) is not None and of in (None, one.name)
        for steps in [max(1, math.ceil(len(training.trunk_losses) / most))]
        for part, curve in curves(one, training, record.circumstances.processes)
        for images, loss in thinned(curve, steps)
    ]
    return pd.DataFrame(rows)


def curves(experiment: Experiment, training: Training, processes: int) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return (part, [(images of all, loss)]) for the trunk and each cool-down, which ends at its branch's images."""
    each = training.steps_per_loss

    def curve(first: int, losses: Sequence[float]) -> list[tuple[int, float]]:
        ends = (images_before(experiment, first + each * count) * processes for count in range(1, len(losses) + 1))
        return list(zip(ends, losses, strict=True))

    parts = [("trunk", curve(0, training.trunk_losses))]
    for branch, losses in zip(training.branches, training.cooldown_losses, strict=True):
        start = steps_for(experiment, branch.images // processes) - each * len(losses)
        parts.append((f"cool-down to {branch.images:,} images", curve(start, losses)))
    return parts


def thinned(curve: Sequence[tuple[int, float]], steps: int) -> list[tuple[int, float]]:
    """Return one point for so many steps: their mean loss at the last of them."""
    shares = [curve[start : start + steps] for start in range(0, len(curve), steps)]
    return [(share[-1][0], fmean(loss for _, loss in share)) for share in shares]


def failures(comparison: Comparison) -> list[tuple[Record, Failure]]:
    """Return the runs that failed, by the time they were started."""
    return sorted(comparison.of(Failure), key=lambda found: found[0].circumstances.started_at)


def conflicting_settings(comparison: Comparison) -> dict[str, list[str]]:
    """Return the names under which records hold different settings, the seed aside, with the fields."""
    by_name: dict[str, list[Experiment]] = {}
    for record in comparison.records:
        if record.experiment is not None:
            by_name.setdefault(record.experiment.name, []).append(record.experiment)
    differing = {name: [f for f in differing_fields(group) if f != "seed"] for name, group in by_name.items()}
    return {name: fields for name, fields in differing.items() if fields}


def _speed_row(experiment: Experiment, speed: Speed, peak: float) -> dict[str, object]:
    images, window = images_per_step(experiment, speed), median(speed.window_seconds)
    rate = images_per_second(experiment, speed)
    phases = {name: 1000 * median(seconds) for name in PHASES if (seconds := speed.phase_seconds.get(name))}
    return {
        "experiment": experiment.name,
        "method": experiment.method,
        "round": speed.round,
        "batch_size": experiment.batch_size,  # of one process, as the FLOPs are
        "images_per_second": rate,
        "forward_backward_images_per_second": forward_backward_rate(experiment, speed) or NAN,
        "step_ms": 1000 * window / experiment.steps_per_window,
        "phases_ms": sum(phases.values()) if phases else NAN,
        "step_flops_per_image": speed.flops.step / images,
        "forward_flops_per_image": speed.flops.forward / images,
        "image_forward_flops_per_image": speed.flops.image_forward / images,
        "text_forward_flops_per_image": speed.flops.text_forward / images,
        "model_flops_utilisation": model_flops_utilisation(experiment, speed, peak),
        "peak_flops_per_second": peak,
        "peak_source": speed.peak_source,
        "captions_per_second": speed.num_captions / speed.targets_seconds if speed.targets_seconds > 0 else NAN,
        "tokens_per_caption": NAN if speed.tokens_per_caption is None else speed.tokens_per_caption,
        "trained_parameters": speed.trained_parameters,
        "tower_parameters": speed.tower_parameters,
        "not_measured": "; ".join(f"{name}: {reason}" for name, reason in speed.not_measured.items()),
        "sampler_share": speed.sampler_share,
        "warmup_seconds": speed.warmup_seconds,
        "windows": len(speed.window_seconds),
        **{PHASE + name: milliseconds for name, milliseconds in phases.items()},
        **{UTILISATION + name: value for name, value in speed.utilisation.items()},
    }


def _is_of_experiment(record: Record) -> bool:
    """Tell an experiment's own record from one that only borrows its tower (the untrained tower's scores)."""
    subject = getattr(record.measured, "subject", None)
    return subject is None or record.experiment is None or subject == record.experiment.name


def sized_family(experiment: Experiment) -> tuple[object, ...]:
    """Return what experiments share that differ in their batch alone, and in what follows from it."""
    return tuple(getattr(experiment, field) for field in FIELDS if field not in BY_BATCH)


def _rank(method: MethodName) -> int:
    return METHOD_NAMES.index(method)


def _labels(experiments: dict[str, Experiment]) -> dict[str, str]:
    """Call an experiment by its method, and where others have that too, by its batch or by what else is its own."""
    alike: dict[str, list[Experiment]] = defaultdict(list)
    for experiment in experiments.values():
        alike[title_of(experiment)].append(experiment)
    labels = {}
    for name, experiment in experiments.items():
        others = alike[title_of(experiment)]
        if len(others) == 1:
            labels[name] = title_of(experiment)
        elif {*differing_fields(others)} <= {*WITH_BATCH_SIZE}:
            labels[name] = f"{title_of(experiment)} at batch {experiment.batch_size}"
        else:
            labels[name] = ", ".join([title_of(experiment), *_own_settings(experiment, others)])
    counted = Counter(labels.values())
    return {name: label if counted[label] == 1 else name for name, label in labels.items()}


def _own_settings(experiment: Experiment, others: Sequence[Experiment]) -> list[str]:
    """Return what an experiment has that most of the others have not."""
    fields = [field for field in differing_fields(others) if field != "name"]
    usual = {field: Counter(str(getattr(one, field)) for one in others).most_common(1)[0][0] for field in fields}
    own = {field: str(getattr(experiment, field)) for field in fields}
    return [f"{field}={value}" for field, value in own.items() if value != usual[field]]


def _incomparable(timed: Sequence[Record]) -> str | None:
    """Say why these runs' speeds may not be compared; settings may differ, machines and versions may not."""
    try:
        require_comparable(timed, may_differ=FIELDS)
    except ValueError as error:
        return str(error)
    return None
