"""How long runs are expected to take: what two cores need at the tiny scale, corrected by what the first jobs took."""

from collections.abc import Mapping, Sequence

from bench.config import Experiment

START_SECONDS, SECONDS_PER_IMAGE, MEMORY_SECONDS, SCORING_SECONDS = 4.0, 1 / 900, 5.0, 4.0
CURVE_SECONDS = {"few-shot": 2.0, "label-fractions": 3.0}  # of a subject on one task; of all others SCORING_SECONDS


def speed_seconds(experiment: Experiment) -> float:
    """Guess how long a speed run takes on two cores at the tiny scale; the guess is corrected as jobs end."""
    steps = experiment.warmup_steps + (experiment.windows + 2) * experiment.steps_per_window
    return START_SECONDS + steps * experiment.batch_size * SECONDS_PER_IMAGE


def training_seconds(experiment: Experiment, budgets: Mapping[str, int]) -> float:
    """Guess how long a training takes on one core at the tiny scale."""
    cooldowns = experiment.cooldown_share * (sum(budgets.values()) - max(budgets.values()))
    return START_SECONDS + (max(budgets.values()) + cooldowns) * SECONDS_PER_IMAGE


def scoring_seconds(processes: int, subjects: int, protocols: Sequence[str]) -> float:
    """Guess how long processes that score so many subjects together take on one core at the tiny scale."""
    a_subject = sum(CURVE_SECONDS.get(protocol, 0.0) for protocol in protocols) or SCORING_SECONDS
    return START_SECONDS * processes + a_subject * subjects
