"""Records -> one HTML document. A pure function: equal records give equal bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass

import msgspec

from bench.catalog import RANDOM_INIT
from bench.measure.summary import Throughput
from bench.record import BatchTrial, Record, Training, Transfer
from reports.accuracy import few_label_section, score_tables
from reports.accuracy.curves import accuracy_chart, loss_chart
from reports.accuracy.pareto import IMAGES, CostAxis, cost_axes, describe_unpriced, front_sentence
from reports.accuracy.scores import (
    Scored,
    answered_tasks,
    fewest_seeds,
    points,
    protocols,
    scores_frame,
    whole_task_answers,
)
from reports.explanation import explanation_section
from reports.headline import headline_table
from reports.history.suites import suites_of, suites_table
from reports.plan import view_plan
from reports.render.document import Download, Panel, csv_download, download, rendered
from reports.render.formats import GIB, times
from reports.render.frames import (
    ComparisonRecords,
    at_largest_batch,
    conflicting_settings,
    group_comparison,
    losses_frame,
    memory_frame,
    speeds_frame,
    throughputs,
)
from reports.render.svg import swatch
from reports.render.tables import HtmlTable
from reports.render.words import GLOSSARY
from reports.speed import circumstances as about
from reports.speed import speed_tables
from reports.speed.batches import batches_section
from reports.speed.charts import ratio_chart, series_index, throughput_chart
from reports.speed.circumstances import losses_table
from reports.speed.phases import bound_sentence, phase_chart, phase_keys, phase_table
from reports.summary import answer_of
from reports.unmeasured import unmeasured_table


def page(
    name: str,
    records: Sequence[Record],
    *,
    others: Sequence[str] = (),
    suites: bytes | None = None,
    plan: bytes | None = None,
) -> str:
    """Return the page of one comparison; `others` are the other comparisons in its folder.

    `suites` is a document of pytest-benchmark, `plan` one of `python -m bench plan --json`. Raises ValueError for a
    document of another kind.
    """
    equal, at_largest = at_largest_batch(records)
    comparison, largest = group_comparison(name, equal), group_comparison(name, at_largest)
    rows, answers = throughputs(comparison), whole_task_answers(comparison)
    filled = (largest, throughputs(largest)) if at_largest else None
    speed, accuracy = _speed_section(comparison, rows), _accuracy_section(comparison, answers)
    at_most = _largest_section(*filled) if filled else None
    batches, few = batches_section(comparison, records), few_label_section.section(comparison)
    headline, methods = headline_table(comparison, rows, filled, answers), about.methods_table(comparison, rows)
    return rendered(
        "page.html",
        comparison=comparison,
        others=others,
        facts=_facts(comparison, rows, answers),
        answer=answer_of(comparison, rows, filled, answers),
        conflicts=conflicting_settings(comparison),
        explanation=explanation_section(comparison),
        headline=headline,
        speed=speed,
        largest=at_most,
        batches=batches,
        accuracy=accuracy,
        losses=_losses(comparison),
        losses_table=losses_table(comparison),
        about=about,
        methods=methods,
        plan=view_plan(plan) if plan is not None else None,
        suites=suites_table(suites_of(suites)) if suites is not None else None,
        failures=about.failures_table(comparison),
        unmeasured=unmeasured_table(comparison, _tables([headline, speed, at_most, batches, accuracy, few, methods])),
        downloads=_downloads(comparison, records, suites),
        learned=few,
        glossary=GLOSSARY,
    )


def _facts(comparison: ComparisonRecords, rows: Sequence[Throughput], answers: Sequence[Scored]) -> list[str]:
    """Return the numbers of experiments, runs, seeds, tasks and records."""
    most = max((len(row.runs) for row in rows), default=0)
    seeds = fewest_seeds(answers)
    found = [
        times(len(comparison.experiments), "experiment"),
        f"{times(most, 'timed run')} each" if most else "no timed runs",
        times(seeds, "training seed") if seeds else "" if comparison.of(Transfer) else "no towers scored",
        times(len(answered_tasks(answers)), "transfer task") if answers else "",
        times(len(comparison.records), "record"),
    ]
    return [fact for fact in found if fact]


def _speed_section(comparison: ComparisonRecords, rows: Sequence[Throughput]) -> dict[str, object]:
    has_ratios = any(row.ratio is not None for row in rows)
    has_phases = any(row.figures["phases_ms"] for row in rows)
    return {
        "rows": rows,
        "chart": throughput_chart(comparison, rows) if rows else None,
        "ratios": ratio_chart(comparison, rows) if has_ratios else None,
        "phases": phase_chart(comparison, rows) if has_phases else None,
        "table": speed_tables.throughput_table(comparison, rows),
        "phase_keys": phase_keys(rows),
        "bound": bound_sentence(comparison, rows),
        "phase_table": phase_table(comparison, rows),
        "cost_table": speed_tables.cost_html_table(comparison, rows),
        "runs_table": speed_tables.runs_table(comparison, rows),
        "note": speed_tables.runs_note(rows),
        "peak_sources": dict.fromkeys(row.peak_source for row in rows),
        "not_measured": dict.fromkeys(reason for row in rows for reason in row.not_measured),
        "untimed": speed_tables.untimed(comparison, rows),
    }


def _largest_section(largest: ComparisonRecords, rows: Sequence[Throughput]) -> dict[str, object]:
    return {
        "limits": sorted({fit.limit_bytes / GIB for _, fit in largest.of(BatchTrial)}),
        "table": speed_tables.throughput_table(largest, rows, speed_tables.LARGEST_BATCH),
        "tries": speed_tables.tries_table(largest),
        "note": speed_tables.runs_note(rows),
    }


def _accuracy_section(comparison: ComparisonRecords, answers: Sequence[Scored]) -> dict[str, object] | None:
    if not answers:
        return None
    protocol, names = protocols(answers)[0], answered_tasks(answers)
    trained = list(dict.fromkeys(one.subject for one in answers if not one.is_reference))
    device, energy = cost_axes(comparison)

    def panels(price: CostAxis) -> list[Panel]:
        if not any(price.per_image is None or subject in price.per_image for subject in trained):
            return []
        return [Panel(task, accuracy_chart(comparison, answers, task, protocol, price)) for task in names]

    return {
        "protocol": protocol,
        "legend": [(comparison.label(name), swatch(series_index(comparison, name))) for name in trained],
        "by_images": panels(IMAGES),
        "by_seconds": panels(device),
        "by_energy": panels(energy),
        "untimed": describe_unpriced(comparison, trained, device),
        "no_energy": describe_unpriced(comparison, trained, energy),
        "points": score_tables.points_table(comparison, answers, protocol, device, energy),
        "lead": _lead_chart(comparison, answers, protocol, device),
        "overview": score_tables.overview_table(comparison, answers),
        "tasks": [
            (task, score_tables.task_table(comparison, answers, task, device), score_tables.task_note(answers, task))
            for task in names
        ],
        "seeds": fewest_seeds(answers),
        "has_floor": any(one.subject == RANDOM_INIT for one in answers),
    }


def _lead_chart(
    comparison: ComparisonRecords, answers: Sequence[Scored], protocol: str, device: CostAxis
) -> Panel | None:
    """Draw the first task against device seconds, beside the answer; None without a timed tower."""
    task = answered_tasks(answers)[0]
    found = points(answers, task, protocol)
    if not any(not point.is_reference and device.of(point) is not None for point in found):
        return None
    chart = accuracy_chart(comparison, answers, task, protocol, device, "lead")
    return Panel(f"{task}: accuracy against device seconds", chart, front_sentence(comparison, found, device))


def _tables(of: object) -> list[HtmlTable]:
    """Return the tables of sections, at any depth."""
    if isinstance(of, HtmlTable):
        return [of]
    inside: Iterable[object] = ()
    if isinstance(of, dict):
        inside = of.values()
    elif isinstance(of, (list, tuple)):
        inside = of
    elif is_dataclass(of):
        inside = [getattr(of, field.name) for field in fields(of)]
    return [table for one in inside for table in _tables(one)]


def _losses(comparison: ComparisonRecords) -> list[Panel]:
    trained = {record.experiment.name for record, _ in comparison.of(Training) if record.experiment is not None}
    names = [name for name in comparison.experiments if name in trained]
    return [Panel(comparison.label(name), loss_chart(comparison, name)) for name in names]


def _downloads(comparison: ComparisonRecords, records: Sequence[Record], suites: bytes | None) -> list[Download]:
    frames = {
        "speeds.csv": ("every timed run, derived figures", speeds_frame(comparison)),
        "memory.csv": ("peaks of the memory runs", memory_frame(comparison)),
        "scores.csv": ("every tower, task and protocol", scores_frame(comparison)),
        "losses.csv": ("the points of the loss charts", losses_frame(comparison)),
    }
    found = [csv_download(name, what, frame) for name, (what, frame) in frames.items() if len(frame)]
    found.append(download("records.json", "all records, with every step", msgspec.json.encode(records)))
    if suites is not None:
        found.append(download("suites.json", "the document of pytest-benchmark", suites))
    return found
