"""The glossary, and the descriptions of methods."""

from bench.config import Experiment
from bench.experiments import TRAITS

METHODS = TRAITS
VARIANTS = {"flip": "FLIP", "clipa": "CLIPA"}  # CLIP with other settings, by the first word of the experiment's name

GLOSSARY: dict[str, str] = {
    "method": "a way to pre-train the tower: the model around it, its targets, and its loss",
    "tower": "the image encoder, equal for all methods of a comparison and scored without projection or head",
    "text tower": "the encoder of captions; only contrastive methods have one",
    "experiment": "all settings that can change a figure, under one name",
    "run": "one process that runs one experiment; the unit of repetition of speeds",
    "window": "one timed sample of a run, several steps long; the figure of a run is the median of its windows",
    "round": "one run of every experiment, each in a fresh process, in rotating order; on a CPU interleaved by window",
    "comparison": "runs started together, of experiments that differ only in named fields",
    "record": "the document of a run; all figures of this page come from records",
    "seed": "the state of the random generator of a training; the unit of repetition of accuracies",
    "budget": "the quantity that is equal for compared towers: images seen, or seconds on the device",
    "device seconds": "images seen divided by the experiment's measured images per second",
    "random-init baseline": "the same tower with random weights, without any training",
    "linear probe": "logistic regression on the tower's frozen features",
    "k-NN": "a vote of the nearest training images in the tower's frozen features",
    "few-shot": "a linear probe on few labelled images per class, over several draws of them",
    "label fractions": "a linear probe on a share of the labelled images, over several draws of them",
    "copied rows": "a new head initialised with the classifier's rows of the labels nearest to its classes",
    "Pareto front": "the towers that no other tower exceeds in accuracy at an equal or lower cost",
    "MFU": "model FLOPs utilisation: 3 x forward FLOPs per image x images per second, over the device's peak",
    "interval": "95 %: Student's t for runs, seeds and draws, Wilson's for a share of test images",
}

VERDICTS: dict[str, str] = {
    "faster": "▲\N{NO-BREAK SPACE}faster",
    "slower": "▼\N{NO-BREAK SPACE}slower",
    "no difference": "=\N{NO-BREAK SPACE}no\N{NO-BREAK SPACE}difference",
    "inconclusive": "?\N{NO-BREAK SPACE}inconclusive",
}


def title_of(experiment: Experiment) -> str:
    """Return the name of an experiment's method in its paper."""
    method = experiment.method
    title = METHODS[method].title if method in METHODS else method
    return VARIANTS.get(experiment.name.partition("-")[0], title)
