"""Records -> one HTML document. A pure function: equal records give equal bytes."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from markupsafe import Markup

from bench.catalog import RANDOM_INIT, describe_known_concepts
from bench.experiments import HEADLINE
from bench.measure.ranks import find_slow_ranks
from bench.measure.summary import Throughput
from bench.record import BatchTrial, Memory, Record, Speed, Training, Transfer
from bench.record_kind import Measured
from bench.statistics import AccuracyDifference, judge_accuracy_differences
from reports.accuracy import score_tables, scores
from reports.accuracy.few_label_section import few_label_section, head_differences
from reports.accuracy.pareto import IMAGES, CostAxis, cost_axes, describe_front, describe_unpriced
from reports.accuracy.ranking import Key, ranking_differences
from reports.accuracy.scores import SubjectScore
from reports.accuracy.training_charts import accuracy_chart, loss_chart
from reports.claims.page import claim_line
from reports.claims.statement import make_speed_cards, speed_statement
from reports.explanation import explanation_section
from reports.plan import view_plan
from reports.render import frames
from reports.render.document import Download, Panel, embed_csv, embed_file, render_template
from reports.render.formats import GIB, GLOSSARY, join_words, pluralize
from reports.render.frames import ComparisonRecords
from reports.render.tables import NOT_MEASURED, Cell, Column, HtmlTable
from reports.speed import circumstances as about
from reports.speed import speed_tables
from reports.speed.batches import batches_section
from reports.speed.charts import legend, ratio_chart, throughput_chart
from reports.speed.phases import describe_input_bound, phase_chart, phase_keys, phase_table, rank_table
from reports.summary import answer_sentences, headline_table

KINDS: Mapping[str, type[Measured]] = {
    "speed": Speed,
    "memory": Memory,
    "training losses": Training,
    "transfer accuracy": Transfer,
}
HEADLINE_CLAIM = "catlip-2.7x"
MOST_NAMED = 6  # rows of which one figure was not measured


def page(
    name: str,
    records: Sequence[Record],
    *,
    joined: Sequence[str] = (),
    others: Mapping[str, str] = {},
    suites: bytes | None = None,
    plan: bytes | None = None,
    damaged: Sequence[str] = (),
    claim_records: Sequence[Record] = (),
) -> str:
    """Return the page of a comparison, or of several that are `joined` and named after the newest.

    `others` are the other comparisons of the folder, each with the reason why it is not on the page, or with "".
    `damaged` are the errors of files that are left out, `claim_records` the folder's records of `HEADLINE_CLAIM`.

    `suites` is a document of pytest-benchmark, `plan` one of `python -m bench plan --json`. Raises ValueError for a
    document of another kind.
    """
    at_equal_batch, at_largest_batch = frames.select_equal_and_largest_batch(records)
    comparison, sized = frames.group_comparison(name, at_equal_batch), frames.group_comparison(name, at_largest_batch)
    rows, answers = frames.throughputs(comparison), scores.whole_task_scores(comparison)
    claims = accuracy_claims(comparison)
    largest = (sized, frames.throughputs(sized)) if at_largest_batch else None
    sections = {
        "headline": headline_table(comparison, rows, largest, answers),
        "speed": _speed_section(comparison, rows),
        "largest": _largest_batch_section(*largest) if largest else None,
        "batches": batches_section(comparison, records),
        "accuracy": _accuracy_section(comparison, answers),
        "learned": few_label_section(comparison, claims),
        "methods": about.methods_table(comparison, rows),
    }
    return render_template(
        "page.html",
        comparison=comparison,
        joined=joined,
        others=others,
        facts=_facts(comparison, rows, answers),
        answer=answer_sentences(comparison, rows, largest, answers, claims),
        claim=_headline_claim(comparison, claim_records),
        conflicts=frames.conflicting_settings(comparison),
        explanation=explanation_section(comparison),
        **sections,
        losses=_loss_panels(comparison),
        losses_table=about.loss_curves_table(comparison),
        about=about,
        plan=view_plan(plan) if plan is not None else None,
        suites=speed_tables.components_table(suites) if suites is not None else None,
        failures=about.failures_table(comparison),
        damaged=damaged,
        unmeasured=_unmeasured_table(comparison, _nested_tables(sections)),
        downloads=_embedded_files(comparison, records, suites),
        glossary=GLOSSARY,
    )


def _headline_claim(comparison: ComparisonRecords, records: Sequence[Record]) -> Markup | None:
    """Return the line on CatLIP's published speed; None where the comparison lacks CLIP or CatLIP."""
    if not {*HEADLINE} <= {one.method for one in comparison.experiments.values()}:
        return None
    cards = make_speed_cards(records)
    return claim_line(cards[HEADLINE_CLAIM], speed_statement(cards))


def accuracy_claims(comparison: ComparisonRecords) -> dict[Key, AccuracyDifference]:
    """Judge all differences of accuracies of the page as one family: of towers, and of heads with few labels."""
    differences = ranking_differences(comparison, scores.whole_task_scores(comparison))
    return judge_accuracy_differences(differences | head_differences(comparison))


def _facts(comparison: ComparisonRecords, rows: Sequence[Throughput], answers: Sequence[SubjectScore]) -> list[str]:
    """Return the numbers of experiments, runs, seeds, tasks and records."""
    most = max((len(row.rounds) for row in rows), default=0)
    seeds = scores.fewest_seeds(answers)
    found = [
        pluralize(len(comparison.experiments), "experiment"),
        f"{pluralize(most, 'timed run')} each" if most else "no timed runs",
        pluralize(seeds, "training seed") if seeds else "" if comparison.of(Transfer) else "no towers scored",
        pluralize(len(scores.scored_tasks(answers)), "transfer task") if answers else "",
        pluralize(len(comparison.records), "record"),
    ]
    return [fact for fact in found if fact]


def _speed_section(comparison: ComparisonRecords, rows: Sequence[Throughput]) -> dict[str, object]:
    return {
        "rows": rows,
        "chart": throughput_chart(comparison, rows) if rows else None,
        "ratios": ratio_chart(comparison, rows) if any(row.ratio is not None for row in rows) else None,
        "phases": phase_chart(comparison, rows) if any(row.figures["phases_ms"] for row in rows) else None,
        "table": speed_tables.throughput_table(comparison, rows),
        "phase_keys": phase_keys(rows),
        "bound": describe_input_bound(comparison, rows),
        "phase_table": phase_table(comparison, rows),
        "rank_table": rank_table(comparison),
        "slow_ranks": find_slow_ranks(comparison.records, comparison.experiments),
        "memory_and_size_table": speed_tables.memory_and_size_table(comparison, rows),
        "runs_table": speed_tables.runs_table(comparison, rows),
        "note": speed_tables.describe_intervals(comparison, rows),
        "published_mfu": speed_tables.published_mfu_table(comparison, rows),
        "peak_sources": dict.fromkeys(row.peak_source for row in rows),
        "not_measured": dict.fromkeys(reason for row in rows for reason in row.not_measured),
        "untimed": speed_tables.failed_to_time(comparison, rows),
    }


def _largest_batch_section(largest: ComparisonRecords, rows: Sequence[Throughput]) -> dict[str, object]:
    return {
        "limits": sorted({trial.limit_bytes / GIB for _, trial in largest.of(BatchTrial)}),
        "table": speed_tables.throughput_table(largest, rows, speed_tables.LARGEST_BATCH),
        "tries": speed_tables.trials_table(largest),
        "note": speed_tables.describe_intervals(largest, rows),
    }


def _accuracy_section(comparison: ComparisonRecords, answers: Sequence[SubjectScore]) -> dict[str, object] | None:
    if not answers:
        return None
    names = scores.scored_tasks(answers)
    protocols = list(dict.fromkeys(scores.main_protocol(answers, task) for task in names))
    trained = list(dict.fromkeys(one.subject for one in answers if not one.is_reference))
    device, energy = cost_axes(comparison)

    def panels(cost_axis: CostAxis) -> list[Panel]:
        if not any(cost_axis.per_image is None or subject in cost_axis.per_image for subject in trained):
            return []
        return [Panel(task, accuracy_chart(comparison, answers, task, cost_axis)) for task in names]

    return {
        "protocol": join_words(protocols),
        "known_concepts": describe_known_concepts(names),
        "legend": legend(comparison, trained),
        "by_images": panels(IMAGES),
        "by_seconds": panels(device),
        "by_energy": panels(energy),
        "untimed": describe_unpriced(comparison, trained, device),
        "no_energy": describe_unpriced(comparison, trained, energy),
        "points": score_tables.chart_points_table(comparison, answers, device, energy),
        "lead": _lead_chart(comparison, answers, device),
        "overview": score_tables.overview_table(comparison, answers),
        "tasks": [
            (task, score_tables.task_table(comparison, answers, task, device), score_tables.task_note(answers, task))
            for task in names
        ],
        "seeds": scores.fewest_seeds(answers),
        "has_floor": any(one.subject == RANDOM_INIT for one in answers),
    }


def _lead_chart(comparison: ComparisonRecords, answers: Sequence[SubjectScore], device: CostAxis) -> Panel | None:
    """Draw the first task against device seconds, beside the answer; None without a timed tower."""
    task = scores.scored_tasks(answers)[0]
    found = scores.main_points(answers, task)
    if not any(not point.is_reference and device.of(point) is not None for point in found):
        return None
    chart = accuracy_chart(comparison, answers, task, device, "lead")
    return Panel(f"{task}: accuracy against device seconds", chart, describe_front(comparison, found, device))


def _nested_tables(section: object) -> list[HtmlTable]:
    """Return the tables of a section, at any depth."""
    if isinstance(section, HtmlTable):
        return [section]
    inside: Iterable[object] = ()
    if isinstance(section, dict):
        inside = section.values()
    elif isinstance(section, (list, tuple)):
        inside = section
    elif isinstance(section, Panel):
        inside = [section.table]
    return [table for one in inside for table in _nested_tables(one)]


def _unmeasured_table(comparison: ComparisonRecords, tables: Sequence[HtmlTable]) -> HtmlTable:
    """List each figure that was not measured, with its rows and the reason."""
    absent = [kind for kind, measured in KINDS.items() if not comparison.of(measured)]
    names: dict[tuple[str, str], dict[str, None]] = {  # of rows, by figure and reason
        (kind, "this comparison has no run of this kind"): {"all": None} for kind in absent
    }
    cells = (
        (column.title, cell.why, row[0].text)
        for table in tables
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=False)
    )
    for figure, reason, name in cells:
        if reason.startswith(NOT_MEASURED):
            names.setdefault((figure, reason.removeprefix(NOT_MEASURED)), {})[name] = None
    for experiment, speed in comparison.runs(Speed):
        for reading, reason in speed.not_measured.items():
            names.setdefault((reading, reason), {})[comparison.label(experiment.name)] = None
    _, energy = cost_axes(comparison)
    for name, reason in energy.why_not.items():
        names.setdefault(("energy", reason), {})[comparison.label(name)] = None
    figures: dict[tuple[str, str], dict[str, None]] = {}  # by rows and reason
    for (figure, reason), found in names.items():
        more = len(found) - MOST_NAMED
        of = join_words([*found]) if more <= 0 else f"{', '.join([*found][:MOST_NAMED])} and {more} more"
        figures.setdefault((of, reason), {})[figure] = None
    rows = [[Cell(join_words([*found])), Cell.of(of), Cell.of(reason)] for (of, reason), found in figures.items()]
    return HtmlTable.of_rows("Not measured, and why", Column.texts("figures", "of", "reason"), rows)


def _loss_panels(comparison: ComparisonRecords) -> list[Panel]:
    trained = {experiment.name for experiment, _ in comparison.runs(Training)}
    names = [name for name in comparison.experiments if name in trained]
    return [Panel(comparison.label(name), loss_chart(comparison, name)) for name in names]


def _embedded_files(comparison: ComparisonRecords, records: Sequence[Record], suites: bytes | None) -> list[Download]:
    tables = {
        "speeds.csv": ("every timed run, derived figures", frames.speeds_frame(comparison)),
        "memory.csv": ("peaks of the memory runs", frames.memory_frame(comparison)),
        "scores.csv": ("every tower, task and protocol", scores.scores_frame(comparison)),
        "losses.csv": ("the points of the loss charts", frames.losses_frame(comparison)),
    }
    found = [embed_csv(name, description, frame) for name, (description, frame) in tables.items() if len(frame)]
    found.append(embed_file("records.json", "all records, with every step", msgspec.json.encode(records)))
    if suites is not None:
        found.append(embed_file("suites.json", "the document of pytest-benchmark", suites))
    return found
