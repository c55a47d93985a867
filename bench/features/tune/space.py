"""The space of settings that `tune` searches, and the trials that it draws. No torch here."""

from typing import Any

import numpy as np

from bench.experiment.config import Experiment, get_declared_method_fields, get_field
from bench.experiment.settings import format_settings, renamed_with_settings

# By field: the largest value that is drawn over the experiment's own, and its own over the smallest.
FACTORS = {"learning_rate": 4.0, "weight_decay": 4.0, "warmup_images": 2.0}


def draw_trials(experiment: Experiment, num_trials: int) -> list[Experiment]:
    """Return the experiment as it is, and with other settings: `num_trials` in all.

    Values are drawn log-uniformly around the experiment's own, and those of a field that its method declares from the
    field's `tuned_over`. The draws depend on the field, their number and the seed alone, so that they are equal for all
    methods.
    """
    count = num_trials - 1
    drawn_by_field = dict[str, list[Any]]()
    for field, factor in FACTORS.items():
        value = get_field(experiment, field)
        drawn = value * factor ** (2 * draw_stratified(field, count, experiment.seed) - 1)
        # With three digits, as they are written.
        drawn_by_field[field] = [type(value)(float(f"{number:.3g}")) for number in drawn]
    for field, facts in get_declared_method_fields(experiment.method).items():
        choices = facts.tuned_over
        if choices:
            places = draw_stratified(field, count, experiment.seed) * len(choices)
            drawn_by_field[field] = [choices[int(place)] for place in places]

    trials = [experiment]
    for trial in range(count):
        values = {field: drawn[trial] for field, drawn in drawn_by_field.items()}
        trials.append(renamed_with_settings(experiment, format_settings(values)))
    return trials


def draw_stratified(field: str, count: int, seed: int) -> np.ndarray:
    """Return `count` draws from 0 to 1 in random order: one from each of as many equal parts.

    So the draws of several fields are a Latin hypercube sample (McKay, Beckman and Conover 1979).
    """
    generator = np.random.default_rng([seed, count, *field.encode()])
    return (generator.permutation(count) + generator.random(count)) / count
