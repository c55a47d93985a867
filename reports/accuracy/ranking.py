"""The answer of the page on accuracy, and the differences of accuracy that it judges."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.experiment.experiments import HEADLINE_METHODS
from bench.interfaces.sections import ComparisonView, PageContext
from bench.statistics.accuracies import (
    MIN_SEEDS_FOR_RANKING,
    JudgedAccuracyDifference,
    estimate_difference_over_seeds,
    judge_accuracy_differences,
)
from bench.statistics.ratios import ALPHA
from bench.tables.formats import (
    CONFIDENCE_TEXT,
    format_accuracy,
    format_count_with_noun,
    format_interval,
    format_p_value,
    format_signed_accuracy_difference,
)
from bench.tables.tables import Cell, Column, Table
from bench.transfer.subject_scores import (
    EqualBudget,
    FullLabelScores,
    select_towers_at_budget,
)

VERDICTS = {
    "better": "better than",
    "worse": "worse than",
    "not distinguishable": "not distinguishable from",
}
RANKED = Markup(
    "On {task}, {lead} is <strong>{verdict} {base}</strong> {after}: {difference} <small>({interval} over {over}; "
    "adjusted p {p}).</small>"
)
NOT_RANKED = Markup(
    "It cannot be told whose image tower is more accurate {after}: on {task} {lead}'s scores {lead_accuracy} and "
    "{base}'s {base_accuracy} <small>({over}; {seeds}, a ranking needs {needed}).</small>"
)
DIFFERENCES_NOTE = (
    f"“Better” and “worse” require p ≤ {ALPHA}, adjusted by Holm’s method for all differences of this table; intervals "
    "are not adjusted. Tasks are no random sample, and a ranking is of its task."
)
ExperimentAndBudget = tuple[str, str]


def judge_first_task_differences(
    comparison: ComparisonView, scores: FullLabelScores
) -> dict[ExperimentAndBudget, JudgedAccuracyDifference]:
    """Judge the differences of the towers' accuracies from the base on the first task as one family.

    It judges differences at the budgets of the answer, of towers that have five training seeds or more in common with
    the base.
    """
    differences = {}
    for budget in scores.headline_budgets:
        towers = select_towers_at_budget(scores.main_accuracies(scores.tasks[0]), budget)
        base = towers.pop(comparison.base or "", None)
        if base is None:
            continue
        base_scores = base.correct_by_seed()
        for experiment, tower in towers.items():
            estimate = estimate_difference_over_seeds(base_scores, tower.correct_by_seed())
            if estimate is not None:
                differences[experiment, str(budget)] = estimate
    return judge_accuracy_differences(differences)


def accuracy_sentence(page: PageContext, scores: FullLabelScores) -> Markup | None:
    """Compare the accuracies of the lead and the base, or say that it cannot be told; None without both towers."""
    comparison = page.comparison
    budget = choose_answer_budget(comparison, scores)
    if budget is None:
        return None
    task = scores.tasks[0]
    towers = select_towers_at_budget(scores.main_accuracies(task), budget)
    base = towers[comparison.base or ""]
    lead = towers[choose_lead_experiment(comparison, list(towers))]
    names = {
        "task": task,
        "lead": comparison.short_label(lead.subject),
        "base": comparison.short_label(base.subject),
        "after": budget,
    }
    judged = page.differences.get((lead.subject, str(budget)))
    if judged is not None and judged.p is not None:
        difference = judged.difference
        interval = format_interval(difference, format_signed_accuracy_difference)
        return RANKED.format(
            **names,
            verdict=VERDICTS[judged.verdict],
            difference=format_signed_accuracy_difference(difference.value),
            interval=f"{CONFIDENCE_TEXT} interval {interval}",
            over=difference.over,
            p=format_p_value(judged.p),
        )
    intervals = [format_interval(tower.accuracy, format_accuracy) for tower in (lead, base)]
    over = f"over {lead.accuracy.over}"
    if all(intervals):
        over = f"{CONFIDENCE_TEXT} intervals {' and '.join(intervals)} {over}"
    lead_seeds = lead.correct_by_seed().keys()
    paired_seeds = lead_seeds & base.correct_by_seed().keys()
    return NOT_RANKED.format(
        **names,
        lead_accuracy=format_accuracy(lead.accuracy.value),
        base_accuracy=format_accuracy(base.accuracy.value),
        over=over,
        seeds=format_count_with_noun(len(paired_seeds), "paired seed"),
        needed=MIN_SEEDS_FOR_RANKING,
    )


def accuracy_difference_table(page: PageContext) -> Table:
    """Show the judged differences of accuracy from the base."""
    comparison = page.comparison
    base = comparison.short_label(comparison.base or "")
    columns = [
        *Column.all_left_aligned("experiment", "budget"),
        Column("difference", f"from {base}, {CONFIDENCE_TEXT}"),
        Column.left_aligned("over"),
        Column("p", "Holm"),
        Column.left_aligned("verdict"),
    ]
    rows = []
    for (subject, budget), judged in page.differences.items():
        difference = judged.difference
        row = [
            comparison.name_cell(subject),
            Cell.of(budget),
            Cell.estimate_or_why(difference, format_signed_accuracy_difference),
            Cell.of(difference.over),
            Cell.applicable_or_why(judged.p, format_p_value, "without an interval"),
            Cell.of(judged.verdict),
        ]
        rows.append(row)
    return Table.of_rows("Differences of accuracy from the base", columns, rows, DIFFERENCES_NOTE)


def choose_lead_experiment(comparison: ComparisonView, candidates: Sequence[str]) -> str:
    """Return the experiment that the answer begins with: the project's question, or else the first beside the base."""
    for name in candidates:
        if comparison.experiments[name].method == HEADLINE_METHODS[-1]:
            return name
    for name in candidates:
        if name != comparison.base:
            return name
    return candidates[0]


def choose_answer_budget(comparison: ComparisonView, scores: FullLabelScores) -> EqualBudget | None:
    """Return the budget of the answer: the first at which the base and another tower were scored, of seconds first."""
    for budget in sorted(scores.headline_budgets, key=lambda budget: budget.images is not None):
        towers = select_towers_at_budget(scores.main_accuracies(scores.tasks[0]), budget)
        if comparison.base in towers and len(towers) > 1:
            return budget
    return None
