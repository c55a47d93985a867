"""Verbs of the command line, and of `report`. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bench.experiment.config import look_up
from bench.interfaces.registry import Named, Registry, import_object


class ParsedVerb(Protocol):
    """A parsed verb: a dataclass, whose fields are its options and whose docstring is its help."""

    def run(self) -> int:
        """Run the verb and return its exit code; ValueError or OSError for errors that the person can correct."""
        ...


@dataclass(frozen=True)
class LazyVerb(Named):
    """A verb by its name, so that its module is imported only when it is run."""

    name: str
    summary: str  # its line in the help of the program
    # The class of its `ParsedVerb`, or where it lies as "package.module:Class".
    command: type[Any] | str


VERBS = Registry[LazyVerb]("verb", LazyVerb, "bench.cli.verbs:BUILT_IN")
REPORT_VERBS = Registry[LazyVerb]("verb of report", LazyVerb, "reports.verbs:BUILT_IN")


def import_verb_class(name: str, verbs: Registry[LazyVerb]) -> type[Any]:
    """Import and return the class of a verb; ValueError suggests the nearest name."""
    command = look_up(name, verbs, verbs.noun).command
    return import_object(command) if isinstance(command, str) else command


def format_verb_list(verbs: Mapping[str, LazyVerb]) -> str:
    """Return a line with name and summary for each verb."""
    return "\n".join(f"  {verb.name:10} {verb.summary}" for verb in verbs.values())
