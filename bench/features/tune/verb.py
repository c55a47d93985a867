"""The verb `tune`. No torch here."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import (
    Json,
    LabelOptions,
    Results,
    ScoreOn,
    Settings,
    Tasks,
    find_experiments_with_settings,
    print_results_and_get_exit_code,
)
from bench.cli.own_vocabulary import with_vocabularies_counted_into_files
from bench.cli.train import parse_image_count
from bench.cli.transfer import (
    choose_single_label_tasks,
    require_openable_disk_tasks_and_towers,
)
from bench.console.console import log
from bench.console.options import require_option_in_range
from bench.environment.files import atomic_write
from bench.experiment.config import change
from bench.experiment.fields import OWN_LENGTHS
from bench.experiment.settings import strip_bracketed_settings
from bench.experiment.tuned_settings import format_tuned_settings
from bench.features.tune.halving import MIN_TRIALS
from bench.features.tune.search import list_trials, search_settings
from bench.features.tune.space import draw_trials
from bench.orchestration.preflight import (
    begin_comparison,
    require_runnable_and_prepare_data,
)
from bench.tables.tables import Table

PURPOSE = "tune"
MAX_TRIALS = 999
NOTE = (
    "accuracy: of a linear probe on the validation part, mean over the tasks. A trial without settings in brackets has "
    "the experiment's own. device seconds: of training and scoring, times GPUs, or times the share of the cores in use."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tune(LabelOptions):
    """Search the settings of methods, with as many trials for each, on the validation parts of tasks.

    Trials differ in learning rate, weight decay, warm-up, and the fields for which the method declares values to try.
    All trials see a ninth of the images, the best third of them a third, and the best third of these all images. No
    test part is read. The chosen settings are written to a file in RESULTS, with what all trials cost.
    """

    # methods whose settings are searched: experiments without their scale, such as flip (see `list`)
    methods: Positional[Annotated[tuple[str, ...], arg(metavar="METHOD ...")]]
    trials_per_method: int = MIN_TRIALS  # number of trials of each method
    # scale of the experiments, the end of their names after the method, such as tiny or vit-b16 (see `list`)
    scale: Annotated[str, arg(metavar="tiny|vit-b16|...")] = "tiny"
    # number of images of the longest trials (80000, 80k or 12.8M); default: the experiment's
    max_images_seen: Annotated[str | None, arg(metavar="N")] = None
    # continue the newest search in RESULTS, which must have the same options and commit: recorded trials are not
    # repeated; default: begin a new one
    resume: bool = False
    tasks: Tasks = ()
    score_on: ScoreOn = None
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Search method by method, print the trials, and write the chosen settings."""
        if not self.methods:
            raise ValueError("name the methods to tune, such as flip")
        require_option_in_range("trials-per-method", self.trials_per_method, MIN_TRIALS, MAX_TRIALS)
        tasks, root = choose_single_label_tasks(self.tasks, self.score_on, PURPOSE)
        names = [f"{method}-{self.scale}" for method in self.methods]
        named = find_experiments_with_settings(
            names, [*self.settings, *self.format_data_settings()]
        )
        experiments = [change(experiment, pack_caption_lengths=OWN_LENGTHS) for experiment in named]
        if self.vocabulary_from_captions:
            experiments = with_vocabularies_counted_into_files(experiments, self.results)
        all_trials = [draw_trials(experiment, self.trials_per_method) for experiment in experiments]
        require_runnable_and_prepare_data(self.results, experiments, will_train=True, tasks=tasks)
        require_openable_disk_tasks_and_towers(self.results, root, tasks)
        comparison = begin_comparison(
            self.results, PURPOSE, list(chain(*all_trials)), resume=self.resume
        )
        tuned = {}
        for trials in all_trials:
            images = (
                parse_image_count(self.max_images_seen, "--max-images-seen")
                if self.max_images_seen
                else trials[0].training.images_seen
            )
            chosen = search_settings(comparison, trials, images, tasks, root)
            if chosen is not None:
                tuned[strip_bracketed_settings(trials[0].name)] = chosen
        text = format_tuned_settings(tuned)
        path = comparison.results / f"{comparison.name}.settings.toml"
        with atomic_write(path) as temporary:
            temporary.write_text(text)
        table = Table.from_dicts("Trials", list_trials(comparison.records()), NOTE)
        code = print_results_and_get_exit_code(comparison, [table], self.json)
        log(f"{path}, for --tuned-settings of train and measure:\n{text}")
        return code
