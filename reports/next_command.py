"""Commands that add to the records of a page: the one for what they lack most, and those for a larger size."""

import shlex
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from bench.cli.verbs import VERBS
from bench.console.console import PROGRAM, printable
from bench.experiments import COMPARED, EXPERIMENTS, HEADLINE, SCALES
from bench.fields import PACK_DATA
from bench.formats import pluralize
from bench.measure.summary import Throughput
from bench.method import find_method
from bench.orchestration.scope import required_rounds
from bench.record import Failure, Training
from bench.sections import ComparisonRecords
from bench.settings import split_name
from bench.statistics import SEEDS_FOR_INTERVAL, SEEDS_FOR_RANKING
from reports.accuracy import scores
from reports.accuracy.scores import SubjectScore
from reports.answer import ANSWERS, is_smoke_test, lead_row
from reports.render.frames import group_by

DEFAULT_SCOPES = {"default": [], "full": ["--full"]}  # options of the default comparison, by the end of its name
LARGER_SCALES = ("vit-b16", "vit-l14")  # the first that is not the page's own
Command = tuple[list[str], str]  # the words after the program's name, and the reason


def next_command(comparison: ComparisonRecords, answers: Sequence[SubjectScore]) -> list[Markup]:
    """Return the command that adds what the records lack most, and the reason; empty where none is known."""
    found = next(_proposals(comparison, answers), None)
    return [] if found is None else [format_command(found[0]), Markup("{}").format(found[1])]


def format_command(words: Sequence[str]) -> Markup:
    """Write a command line."""
    return Markup("<code>{}</code>").format(f"{PROGRAM} {printable(shlex.join(words))}".strip())


def larger_commands(comparison: ComparisonRecords, lead: Throughput) -> list[Markup]:
    """Return the commands that predict and that measure the ratio at a larger size; none without named experiments."""
    names, _ = _split_names([comparison.base or "", lead.experiment])
    scales = [_scale_of(name) for name in names]
    if not all(scales):
        return []
    larger = next(scale for scale in LARGER_SCALES if scale not in scales)
    pair = [name.removesuffix(scale) + larger for name, scale in zip(names, scales, strict=True)]
    plan = [["plan", *pair, "--device", "h100"]] if "plan" in VERBS else []
    return [*map(format_command, [*plan, ["measure", *pair, *own_data_options(comparison)]])] if pair else []


def own_data_options(comparison: ComparisonRecords) -> list[str]:
    """Return the options of the data and captions that all experiments have; none for the shipped pack."""
    inputs = {(one.input.data, one.input.caption) for one in comparison.experiments.values()}
    data, caption = inputs.pop() if len(inputs) == 1 else (PACK_DATA, None)
    return [] if data == PACK_DATA else ["--data", data, *(["--caption", caption] if caption is not None else [])]


def _proposals(comparison: ComparisonRecords, answers: Sequence[SubjectScore]) -> Iterator[Command]:
    """Yield what can be done, the most urgent first."""
    lead, seeds, scope = lead_row(comparison), scores.fewest_seeds(answers), comparison.name.rpartition("-")[2]
    data = own_data_options(comparison)
    names, options = _split_names(comparison.experiments)
    if is_smoke_test(comparison):
        yield data, "The smoke test checks that every stage runs; its figures mean nothing. This measures."
    if scope in DEFAULT_SCOPES and (failed := len(comparison.of(Failure))):
        yield ([*DEFAULT_SCOPES[scope], "--resume", *data], f"{pluralize(failed, 'run')} failed: this repeats them.")
    if lead is None and (compared := _with_partner(names)):
        yield ["measure", *compared, *options], "No ratio was measured: this times these experiments in rounds."
    pair, pair_options = _split_names([comparison.base or "", lead.experiment] if lead else [])
    if lead is not None and lead.ratio is not None and pair and lead.ratio.verdict not in ANSWERS:
        on_gpu = comparison.records[0].circumstances.device != "cpu"
        rounds = max(2 * min(lead.ratio.runs), required_rounds(1, on_gpu=on_gpu))
        yield (
            ["measure", *pair, "--rounds", str(rounds), *pair_options],
            f"The verdict is “{lead.ratio.verdict}”: this times the two in more rounds. Leave the machine to it.",
        )
    if pair and not seeds and not pair_options and {*pair} <= {f"{method}-tiny" for method in COMPARED}:
        yield [], "No tower was trained and scored: this does both, for the default methods."
    if scope in DEFAULT_SCOPES and seeds < SEEDS_FOR_INTERVAL:
        yield ["--full", *data], "This trains three seeds for longer, so that accuracies have intervals over seeds."
    if scope not in DEFAULT_SCOPES and 0 < seeds < SEEDS_FOR_RANKING and not data and names:
        yield from _next_seed(comparison, options)
    if lead is not None and pair and "explain" in VERBS and "-explain" not in comparison.name:
        yield from _explanation(comparison, lead, pair, pair_options)


def _next_seed(comparison: ComparisonRecords, options: Sequence[str]) -> Iterator[Command]:
    """Yield the training of the experiment that has the fewest seeds, with a new one."""
    trained = group_by((one for one, _ in comparison.runs(Training)), lambda one: one.name)
    for found in sorted(trained.values(), key=len)[:1]:
        name, seed = split_name(found[0].name)[0], 1 + max(one.seed for one in found)
        images = ["--images", str(found[0].training.images), "--out", f"results/{name}-{seed}"]
        reason = f"A ranking needs {SEEDS_FOR_RANKING} seeds of each method; the page joins the trainings."
        yield ["train", name, "--set", f"seed={seed}", *options, *images], reason


def _explanation(
    comparison: ComparisonRecords, lead: Throughput, pair: Sequence[str], options: Sequence[str]
) -> Iterator[Command]:
    """Yield the decomposition of the ratio, where a ladder leads from one method to the other."""
    methods = [comparison.experiments[name].method for name in (comparison.base or "", lead.experiment)]
    ends = [getattr(find_method(method), "ladder_end", None) for method in methods]
    first, last = reversed(pair) if ends == ["classifier", "pair"] else pair
    if None not in ends or methods[0] == methods[1]:
        yield ["explain", last, "--baseline", first, *options], "This finds where the ratio comes from."


def _with_partner(names: Sequence[str]) -> list[str]:
    """Return the names, and beside a single one the first other method of the project's question at its scale."""
    if len(names) != 1 or not (scale := _scale_of(names[0])):
        return [*names]
    base, other = (f"{method}-{scale}" for method in HEADLINE)
    return [base, other if names[0] == base else names[0]]


def _split_names(experiments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names without settings, and the options of their settings; nothing where no command makes them all."""
    split = [split_name(name) for name in experiments]
    names = [*dict.fromkeys(name for name, _ in split)]
    settings = [[one for group in groups for one in group] for _, groups in split]
    if len(names) < len(split) or any(name not in EXPERIMENTS for name in names) or settings[1:] != settings[:-1]:
        return [], []
    return names, [word for one in settings[:1] for setting in one for word in ("--set", setting)]


def _scale_of(name: str) -> str:
    """Return the scale in an experiment's name; "" without one."""
    return next((scale for scale in SCALES if name.endswith(f"-{scale}")), "")
