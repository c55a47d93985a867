"""The sentences that answer the page's question, and the one that says what they do not show."""

from markupsafe import Markup

from bench.experiment.experiments import SCALES, TEXT_SHARE_AT_VIT_B16
from bench.interfaces.sections import ComparisonRecords, PageContext
from bench.interfaces.throughput import Throughput
from bench.measure.windows import describe_busy_processes
from bench.orchestration.scope import scopes
from bench.records.record import BatchTrial, Failure, Speed, Training, Transfer
from bench.statistics.ratios import SMALLEST_EFFECT, Ratio
from bench.tables.formats import (
    GIB,
    INTERVAL,
    NBSP,
    format_interval,
    format_percent,
    format_rate,
    format_ratio,
    join_words,
    pluralize,
)
from bench.transfer.subject_scores import WholeTaskScores
from reports.accuracy.ranking import (
    MOST_NAMED,
    accuracy_answer,
    headline_experiment,
    link_to_omitted,
)
from reports.circumstances import head_flops_shares

ANSWERS = {  # by verdict; any other leaves the answer open
    "faster": Markup("{lead} trains {ratio} times as many images per second as {base}"),
    "slower": Markup("{lead} trains only {ratio} times as many images per second as {base}"),
    "no difference": Markup(
        "{lead} trains as many images per second as {base}, within {smallest}: {ratio} times"
    ),
}
# Options of the default comparison, by the end of its name.
DEFAULT_SCOPES = {
    "default": [],
    "full": ["--full"],
}
SMOKE = Markup(
    "Smoke test: the figures on this page mean nothing. It checks that every stage runs."
)
OPEN = Markup(
    "It cannot be told yet whether {lead} or {base} is faster: {lead} trained {ratio} times as many images per second"
)


def answer_sentences(page: PageContext, answers: WholeTaskScores) -> list[Markup]:
    """Say which of two experiments is faster, and whose tower is more accurate, or that it cannot be told."""
    missing = missing_runs(page.comparison)
    ended = [Markup("This comparison ended early: {}.").format(missing)] if missing else []
    busy = describe_busy_processes(page.comparison.records)
    found = [
        *([Markup("{}").format(busy)] if busy else []),
        *ended,
        *_speed_answer(page.comparison),
        *accuracy_answer(page.comparison, answers, page.differences),
    ]
    return found or [Markup("No speed was measured in this comparison.")]


def missing_runs(comparison: ComparisonRecords) -> str:
    """Return how much there is of a default comparison that ended early; "" of any other, and where runs failed."""
    if comparison.scope not in DEFAULT_SCOPES or comparison.of(Failure):
        return ""
    names = {*comparison.experiments}
    trained = {one.name for one, _ in comparison.runs(Training)}
    scored = {found.subject for _, found in comparison.of(Transfer)} & names
    if names <= trained & scored:
        return ""
    on_gpu = comparison.records[0].circumstances.device != "cpu"
    planned = scopes(on_gpu=on_gpu)[comparison.scope].rounds
    by_name = {row.experiment: len(row.rounds) for row in comparison.throughputs}
    timed, of = min(by_name.get(name, 0) for name in names), pluralize(len(names), "experiment")
    return f"{timed} of {pluralize(planned, 'round')} timed; of {of}, {len(trained)} trained and {len(scored)} scored"


def largest_batch_sentences(largest: ComparisonRecords | None) -> list[Markup]:
    """Report the ratio of experiments that each fill the same memory, separately from that at equal batch size."""
    if largest is None or (lead := headline_row(largest)) is None:
        return []
    limits = sorted(
        {f"{trial.limit_bytes / GIB:g}{NBSP}GiB" for _, trial in largest.of(BatchTrial)}
    )
    head = Markup("Each at its largest batch size under {}: ").format(join_words(limits))
    return [head + _ratio_sentence(largest, lead)]


def headline_row(comparison: ComparisonRecords) -> Throughput | None:
    """Return the experiment that the answer begins with; None without a ratio."""
    compared = {row.experiment: row for row in comparison.throughputs if row.ratio is not None}
    return compared[headline_experiment(comparison, list(compared))] if compared else None


def limits_sentence(comparison: ComparisonRecords, answers: WholeTaskScores) -> str:
    """Say what the answer does not show: other machines, sizes, trainings and tasks than those of the records."""
    circumstances = [record.circumstances for record in comparison.records]
    machines = {one.machine_and_gpu: one.machine for one in circumstances}
    threads = [
        pluralize(record.circumstances.threads, "thread") for record, _ in comparison.of(Speed)
    ][:1]
    if len(machines) == 1:
        here = f"this one ({'; '.join([circumstances[0].machine, *threads])})"
    else:
        here = f"these ({join_words([*machines])})"
    limits = [f"other machines than {here}"]
    if comparison.experiments:
        limits.append(f"other sizes than {_describe_size(comparison)}")
    if seeds := answers.fewest_seeds:
        tasks = pluralize(len(answers.tasks), "transfer task")
        limits.append(f"more than {pluralize(seeds, 'training seed')} on {tasks}")
    else:
        limits.append("what the towers learn")
    return f"This does not show {join_words(limits)}."


def _speed_answer(comparison: ComparisonRecords) -> list[Markup]:
    if (lead := headline_row(comparison)) is not None:
        return [_ratio_sentence(comparison, lead)]
    clauses = [
        Markup("{} trains {} images per second ({})").format(
            comparison.label(row.experiment),
            format_rate(row.images_per_second),
            f"median of {pluralize(len(row.rounds), 'run')}"
            if len(row.rounds) > 1
            else "one run: no interval",
        )
        for row in comparison.throughputs[:MOST_NAMED]
    ]
    clauses += link_to_omitted(len(comparison.throughputs) - MOST_NAMED, "throughput")
    return [Markup("; ").join(clauses) + "."] if clauses else []


def _ratio_sentence(comparison: ComparisonRecords, row: Throughput) -> Markup:
    assert row.ratio is not None
    answer = ANSWERS.get(row.ratio.verdict, OPEN).format(
        lead=comparison.label(row.experiment),
        base=comparison.label(comparison.base or ""),
        ratio=format_ratio(row.ratio.value),
        smallest=format_percent(SMALLEST_EFFECT, 0),
    )
    return answer + Markup(" <small>({}).</small>").format(_format_runs_interval(row.ratio))


def _format_runs_interval(found: Ratio) -> str:
    if found.low is None or found.high is None:
        is_disturbed = min(found.runs) > 1
        return (
            "no interval: other work disturbed nearly all runs"
            if is_disturbed
            else "one run each: no interval"
        )
    runs = (
        f"{found.runs[0]} runs each"
        if len(set(found.runs)) == 1
        else f"{found.runs[1]} and {found.runs[0]} runs"
    )
    return f"{INTERVAL} interval {format_interval(found, format_ratio)}, {runs}"


def _describe_size(comparison: ComparisonRecords) -> str:
    """Name the towers; where the base has a text tower, with its share of FLOPs here and at ViT-B/16."""
    images = [one.image for one in comparison.experiments.values()]
    towers = {one.tower: f"{one.tower} at {one.image_size} px" for one in images}
    base = next((row for row in comparison.throughputs if row.experiment == comparison.base), None)
    share = head_flops_shares(base.figures)[0] if base else None
    named = join_words([*towers.values()])
    if not share or SCALES["vit-b16"].image.tower in towers:
        return named
    return (
        f"{named} (its text tower takes {format_percent(share, 0)} of both towers’ forward FLOPs, that of ViT-B/16 "
        f"{format_percent(TEXT_SHARE_AT_VIT_B16, 0)}, so no ratio of this size estimates one of ViT-B/16)"
    )
