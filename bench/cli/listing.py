"""The verb `list`: experiments, their fields and recipes. No torch here, except for costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from msgspec import NODEFAULT
from tyro.conf import arg

from bench.cli.options import Json
from bench.cli.released_recipes import released_recipe_table
from bench.console.console import OK
from bench.console.tables import print_tables
from bench.experiment.config import FIELD_DECLARATIONS, Experiment, get_declared_method_fields
from bench.experiment.experiments import EXPERIMENTS, find_tuning_origin
from bench.interfaces.method import METHODS
from bench.tables.tables import Table

NOTE = (
    "px, batch: of recipes that draw image sizes, px is the range and batch that of 224 px.\n"
    "tuning: of rate, crops, flips and initial head: released by the method's authors,\n"
    "default of open_clip's training program for all ViTs, searched here, or untuned."
)
COSTS_NOTE = (
    "trained, tower: parameters in millions, of all that is trained and of the image tower that is kept.\n"
    "GFLOP: one forward of an image (the mean over the sizes of recipes that draw them), and of a caption at its full\n"
    "context; a step costs three, of a teacher one. Measurements print the tokens that are computed per caption.\n"
    "The last block computes only the tokens that are read: if that is one, ViT-B-16 and its text tower take 7 %\n"
    "fewer FLOPs than open_clip publishes."
)

FIELDS_NOTE = (
    "--set FIELD=VALUE changes a field. Named experiments set values of their own for some."
)


def experiment_table(experiments: Mapping[str, Experiment], *, has_costs: bool) -> Table:
    """Return the table of experiments, with their counted parameters and FLOPs if `has_costs`."""
    rows = [_experiment_row(experiment) for experiment in experiments.values()]
    if not has_costs:
        return Table.from_dicts("Experiments", rows, NOTE)
    from bench.measure.costs import count_parameters_and_forward_flops

    for row, experiment in zip(rows, experiments.values(), strict=True):
        cost = count_parameters_and_forward_flops(experiment)
        row |= {
            "trained, M": cost.trained_parameters / 1e6,
            "tower, M": cost.tower_parameters / 1e6,
            "image GFLOP": cost.image_flops / 1e9,
            "text GFLOP": cost.text_flops / 1e9 or None,
            "text share": cost.text_share_of_flops or None,
            "teacher GFLOP": cost.teacher_flops / 1e9 or None,
        }
    return Table.from_dicts("Experiments", rows, f"{NOTE}\n{COSTS_NOTE}")


def _experiment_row(experiment: Experiment) -> dict[str, Any]:
    smallest = min(experiment.image.all_image_sizes)
    largest = max(experiment.image.all_image_sizes)
    return {
        "experiment": experiment.name,
        "method": experiment.method,
        "tower": experiment.image.tower,
        "px": str(largest) if smallest == largest else f"{smallest}-{largest}",
        "batch": experiment.training.batch_size,
        "tuning": find_tuning_origin(experiment).state,
    }


def experiment_field_table() -> Table:
    """Return the fields of experiments, with those that methods of extensions declare."""
    all_facts = dict(FIELD_DECLARATIONS)
    del all_facts["name"]  # --set does not change it
    for method in METHODS:
        all_facts |= get_declared_method_fields(method)
    rows = []
    for name, facts in all_facts.items():
        choices = [choice for choice in get_args(facts.kind) if isinstance(choice, str)]
        row = {
            "field": name,
            "group": facts.group,
            "values": facts.forms or ", ".join(choices),
            "default": "the experiment's" if facts.default is NODEFAULT else str(facts.default),
            "what it is": facts.description,
        }
        rows.append(row)
    return Table.from_dicts("Fields of an experiment", rows, FIELDS_NOTE)


@dataclass(frozen=True, slots=True)
class ListExperiments:
    """List all named experiments, or what one of the options asks for."""

    # add columns with the parameters and FLOPs of each experiment
    parameters_and_flops: bool = False
    # list, instead of experiments, each setting that the authors of this published recipe released, beside ours
    authors_settings: Annotated[str | None, arg(metavar="EXPERIMENT")] = None
    fields: bool = False  # list, instead of experiments, the fields that --set changes, with values and defaults
    json: Json = None

    def run(self) -> int:
        """Print the table."""
        if self.fields:
            table = experiment_field_table()
        elif self.authors_settings is not None:
            table = released_recipe_table(self.authors_settings)
        else:
            table = experiment_table(EXPERIMENTS, has_costs=self.parameters_and_flops)
        print_tables([table], self.json)
        return OK
