"""Estimates of the durations of runs, for two cores at the tiny scale; progress corrects them by finished jobs."""

from collections.abc import Mapping, Sequence

from bench.config import Experiment

START_SECONDS, SECONDS_PER_IMAGE, MEMORY_SECONDS, SCORING_SECONDS = 4.0, 1 / 900, 5.0, 4.0
CURVE_SECONDS = {"few-shot": 2.0, "label-fractions": 3.0}  # per subject on one task; others take SCORING_SECONDS


def speed_seconds(experiment: Experiment) -> float:
    """Estimate the duration of a speed run on two cores at the tiny scale."""
    steps = experiment.warmup_steps + (experiment.windows + 2) * experiment.steps_per_window
    return START_SECONDS + steps * experiment.batch_size * SECONDS_PER_IMAGE


def training_seconds(experiment: Experiment, budgets: Mapping[str, int]) -> float:
    """Estimate the duration of a training on one core at the tiny scale."""
    cooldowns = experiment.cooldown_share * (sum(budgets.values()) - max(budgets.values()))
    return START_SECONDS + (max(budgets.values()) + cooldowns) * SECONDS_PER_IMAGE


def scoring_seconds(processes: int, subjects: int, protocols: Sequence[str]) -> float:
    """Estimate the total duration of processes that score so many subjects on one core at the tiny scale."""
    a_subject = sum(CURVE_SECONDS.get(protocol, 0.0) for protocol in protocols) or SCORING_SECONDS
    return START_SECONDS * processes + a_subject * subjects
