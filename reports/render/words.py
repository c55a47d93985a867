"""What the page says of methods and words: text, no figures."""

from bench.config import Experiment
from bench.experiments import TRAITS

METHODS = TRAITS
VARIANTS = {"flip": "FLIP", "clipa": "CLIPA"}  # CLIP with other settings, by what their experiments' names begin with

GLOSSARY: dict[str, str] = {
    "method": "a way to pre-train the tower: what is put around it, what it reads beside the images, what it minimises",
    "tower": "the image encoder, the same for all methods of a comparison and scored without any projection or head",
    "text tower": "the encoder of captions; contrastive methods alone have one",
    "experiment": "the settings that fix everything which can change a figure, under one name",
    "run": "one process that runs one experiment; the unit of repetition for speeds",
    "window": "one timed sample of a run, several steps long; a run's figure is the median of its windows",
    "round": "every experiment of the comparison run once, each in a fresh process, in an order that rotates; on a CPU "
    "they take turns, window by window",
    "comparison": "runs started together, of experiments that differ in named fields only",
    "record": "the document that a run leaves; this page is made of records alone",
    "seed": "what a training run's chance depends on; the unit of repetition for accuracy",
    "budget": "what is held equal when towers are compared: images seen, or seconds on the device",
    "device seconds": "images seen divided by the experiment's measured images per second",
    "untrained tower": "the same tower with its first weights: the floor that training has to leave behind",
    "linear probe": "logistic regression on the tower's frozen features",
    "k-NN": "the vote of the nearest training images by the tower's frozen features",
    "few-shot": "a linear probe on few images of each class, on several draws of them",
    "label fractions": "a linear probe on a share of the labelled images, on several draws of them",
    "copied rows": "a new head that begins with the classifier's rows of the labels nearest to its classes",
    "Pareto front": "the towers than which none is both as accurate and as cheap",
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
    """Return what an experiment's method is called in its paper."""
    method = experiment.method
    title = METHODS[method].title if method in METHODS else method
    return VARIANTS.get(experiment.name.partition("-")[0], title)
