"""Commands that add to the records of a page: the one for what they lack most, and those for a larger size."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from markupsafe import Markup

from bench.cli.verbs import VERBS
from bench.console.console import PROGRAM, escape_unprintable
from bench.experiment.config import Experiment, differing_fields, dotted_field_name, get_field
from bench.experiment.experiments import COMPARED, EXPERIMENTS, HEADLINE, SCALES
from bench.experiment.fields import PACK_DATA
from bench.experiment.settings import split_name, with_settings
from bench.interfaces.catalog import DEFAULT_ROOT_TASK, DEFAULT_TASKS, TASKS
from bench.interfaces.method import find_method
from bench.interfaces.sections import DEFAULT_RESULTS, ComparisonRecords, PageContext
from bench.measure.summary import Throughput
from bench.orchestration.scope import default_rounds
from bench.records.record import Failure, Training, Transfer
from bench.statistics.accuracies import SEEDS_FOR_INTERVAL, SEEDS_FOR_RANKING
from bench.tables.formats import join_words, pluralize
from bench.transfer.subject_scores import WholeTaskScores
from reports.answer import ANSWERS, DEFAULT_SCOPES, headline_row, missing_runs
from reports.render.frames import group_by

ROOT = "FOLDER"  # stands for a folder that no record names
LARGER_SCALES = ("vit-b16", "vit-l14")  # the first that is not the page's own
Command = tuple[list[str], str]  # the words after the program's name, and the reason


def next_command(page: PageContext, answers: WholeTaskScores) -> list[Markup]:
    """Return the command that adds what the records lack most, and the reason; empty where none is known."""
    found = next(_proposals(page, answers), None)
    return [] if found is None else [format_command(found[0]), Markup("{}").format(found[1])]


def format_command(words: Sequence[str]) -> Markup:
    """Write a command line."""
    return Markup("<code>{}</code>").format(f"{PROGRAM} {escape_unprintable(shlex.join(words))}".strip())


def larger_scale_commands(page: PageContext, lead: Throughput) -> list[Markup]:
    """Return the commands that predict and that measure the ratio at a larger size; none without named experiments."""
    comparison = page.comparison
    names, _ = _split_names(comparison, [comparison.base or "", lead.experiment])
    scales = [_scale_of(name) for name in names]
    if not all(scales):
        return []
    larger = next(scale for scale in LARGER_SCALES if scale not in scales)
    pair = [name.removesuffix(scale) + larger for name, scale in zip(names, scales, strict=True)]
    plan = [["plan", *pair, "--device", "h100"]] if "plan" in VERBS else []
    data = own_data_options(comparison)
    measure = ["measure", *pair, *data, *(["--count-vocabulary"] if data else []), *results_options(page)]
    return [*map(format_command, [*plan, measure])] if pair else []


def own_data_options(comparison: ComparisonRecords) -> list[str]:
    """Return the options of the data and captions that all experiments have; none for the shipped pack."""
    inputs = {(one.input.data, one.input.caption) for one in comparison.experiments.values()}
    data, caption = inputs.pop() if len(inputs) == 1 else (PACK_DATA, None)
    return [] if data == PACK_DATA else ["--data", data, *(["--caption", caption] if caption is not None else [])]


def results_options(page: PageContext) -> list[str]:
    """Return the option of the folder of the records; none for the default one."""
    return [] if page.results == DEFAULT_RESULTS else ["--results", page.results]


def _scoring_options(comparison: ComparisonRecords) -> tuple[list[str], str]:
    """Return the options of the tasks that were scored, and a sentence on a folder that no record names."""
    transfers = [found for _, found in comparison.of(Transfer)]
    by_metric = [metric.task for found in transfers for metric in found.metrics]
    tasks = list(dict.fromkeys([score.task for found in transfers for score in found.scores] + by_metric))
    if not tasks:
        return [], " Add --root and --task if you gave them: without scores, no record names them."
    names = list(dict.fromkeys(task if task in TASKS else DEFAULT_ROOT_TASK for task in tasks))
    is_default = {*names} <= {*DEFAULT_TASKS} or names == [DEFAULT_ROOT_TASK]
    options = [] if is_default else [word for name in names for word in ("--task", name)]
    of_root = [task for task in tasks if task not in TASKS or TASKS[task].layout]
    if not of_root:
        return options, ""
    return ["--root", ROOT, *options], f" {ROOT} is where {join_words(of_root)} lies: the records do not name it."


def _proposals(page: PageContext, answers: WholeTaskScores) -> Iterator[Command]:
    """Yield what can be done, the most urgent first."""
    comparison = page.comparison
    lead, seeds, scope = headline_row(comparison), answers.fewest_seeds, comparison.scope
    data, results = own_data_options(comparison), results_options(page)
    scoring, of_root = _scoring_options(comparison)
    same = [*data, *scoring, *results]  # options of the default comparison
    names, options = _split_names(comparison, comparison.experiments)
    if comparison.is_smoke_test:
        reason = "The smoke test checks that every stage runs; its figures mean nothing. This measures."
        yield same, reason + of_root
    if scope in DEFAULT_SCOPES and (failed := len(comparison.of(Failure))):
        yield (
            [*DEFAULT_SCOPES[scope], "--resume", *same],
            f"{pluralize(failed, 'run')} failed: this repeats them.{of_root}",
        )
    if missing_runs(comparison):
        yield (
            [*DEFAULT_SCOPES[scope], "--resume", *same],
            f"This goes on where the comparison ended: what is recorded is not repeated.{of_root}",
        )
    if lead is None and (compared := _add_counterpart(names)):
        yield (
            ["measure", *compared, *options, *results],
            "No ratio was measured: this times these experiments in rounds.",
        )
    pair, pair_options = _split_names(comparison, [comparison.base or "", lead.experiment] if lead else [])
    if lead is not None and lead.ratio is not None and pair and lead.ratio.verdict not in ANSWERS:
        on_gpu = comparison.records[0].circumstances.device != "cpu"
        rounds = max(2 * min(lead.ratio.runs), default_rounds(on_gpu=on_gpu))
        yield (
            ["measure", *pair, "--rounds", str(rounds), *pair_options, *results],
            f"The verdict is “{lead.ratio.verdict}”: this times the two in more rounds. Leave the machine to it.",
        )
    if pair and not seeds and not pair_options and {*pair} <= {f"{method}-tiny" for method in COMPARED}:
        yield results, "No tower was trained and scored: this does both, for the default methods."
    if scope in DEFAULT_SCOPES and seeds < SEEDS_FOR_INTERVAL:
        reason = "This trains three seeds for longer, so that accuracies have intervals over seeds."
        yield ["--full", *same], reason + of_root
    if scope not in DEFAULT_SCOPES and 0 < seeds < SEEDS_FOR_RANKING and not data and names:
        yield from _next_seed(page, options)
    if lead is not None and pair and "explain" in VERBS and "-explain" not in comparison.name:
        yield from _explanation(comparison, lead, pair, [*pair_options, *results])


def _next_seed(page: PageContext, options: Sequence[str]) -> Iterator[Command]:
    """Yield the training of the experiment that has the fewest seeds, with a new one."""
    trained = group_by((one for one, _ in page.comparison.runs(Training)), lambda one: one.name)
    for found in sorted(trained.values(), key=len)[:1]:
        name, seed = split_name(found[0].name)[0], 1 + max(one.seed for one in found)
        images = ["--images", str(found[0].training.images), "--out", str(Path(page.results, f"{name}-{seed}"))]
        reason = f"A ranking needs {SEEDS_FOR_RANKING} seeds of each method; the page joins the trainings."
        yield ["train", name, "--set", f"seed={seed}", *options, *images], reason


def _explanation(
    comparison: ComparisonRecords, lead: Throughput, pair: Sequence[str], options: Sequence[str]
) -> Iterator[Command]:
    """Yield the decomposition of the ratio, where a ladder leads from one method to the other."""
    methods = [comparison.experiments[name].method for name in (comparison.base or "", lead.experiment)]
    ends = [getattr(find_method(method), "ladder_role", None) for method in methods]
    first, last = reversed(pair) if ends == ["classifier", "pair"] else pair
    if None not in ends or methods[0] == methods[1]:
        yield ["explain", last, "--baseline", first, *options], "This finds where the ratio comes from."


def _add_counterpart(names: Sequence[str]) -> list[str]:
    """Return the names, and beside a single one the first other method of the project's question at its scale."""
    if len(names) != 1 or not (scale := _scale_of(names[0])):
        return [*names]
    base, other = (f"{method}-{scale}" for method in HEADLINE)
    return [base, other if names[0] == base else names[0]]


def _split_names(comparison: ComparisonRecords, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names without settings, and the options of their settings; nothing where no command makes them all."""
    split = [(*split_name(name), comparison.experiments.get(name)) for name in names]
    bases = [*dict.fromkeys(base for base, _, _ in split)]
    if len(bases) < len(split) or any(base not in EXPERIMENTS for base in bases):
        return [], []
    settings = [[*chain(*groups), *_settings_not_in_name(base, groups, one)] for base, groups, one in split]
    if settings[1:] != settings[:-1]:
        return [], []
    return bases, [word for one in settings[:1] for setting in one for word in ("--set", setting)]


def _settings_not_in_name(base: str, groups: Iterable[Iterable[str]], experiment: Experiment | None) -> list[str]:
    """Return the settings that the default comparison makes on own data and no name lists, such as the vocabulary."""
    if experiment is None or experiment.input.data == PACK_DATA:
        return []
    differing = differing_fields([with_settings(EXPERIMENTS[base], chain(*groups)), experiment])
    own = [field for field in differing if dotted_field_name(field).partition(".")[0] in ("input", "targets")]
    return [f"{field}={get_field(experiment, field)}" for field in own]


def _scale_of(name: str) -> str:
    """Return the scale in an experiment's name; "" without one."""
    return next((scale for scale in SCALES if name.endswith(f"-{scale}")), "")
