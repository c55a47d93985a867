"""Every labelling rule, by the name that `--rule` knows. A rule is loaded when it is asked for, once a process."""

from functools import cache

from bench.config import choose
from bench.labels.rule import Rule


def corenet() -> Rule:
    from bench.labels.corenet import corenet

    return corenet()


def corenet_with_nltk_3_8() -> Rule:
    from bench.labels.corenet import corenet_with_nltk_3_8

    return corenet_with_nltk_3_8()


def paper() -> Rule:
    from bench.labels.paper import PaperRule

    return PaperRule()


def subword() -> Rule:
    from bench.labels.subword import Subword  # imports torch, by way of open_clip

    return Subword()


RULES = {
    "corenet": corenet,
    "corenet-nltk-3.8.1": corenet_with_nltk_3_8,
    "paper": paper,
    "subword": subword,
}


@cache
def rule_named(name: str) -> Rule:
    """Return a rule; ValueError names the nearest."""
    return choose(name, RULES, "rule")()
