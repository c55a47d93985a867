"""The verbs of the command line and those of `report` by name; each is imported when it is needed. No torch here."""

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from bench.console.console import describe_error
from bench.experiment.config import choose
from bench.interfaces.registry import Registry, import_object

if TYPE_CHECKING:
    from bench.interfaces.verb import Command

BUILT_IN = {  # where each verb lies, in the order of the help
    "list": "bench.cli.listing:List",
    "measure": "bench.cli.compare:Measure",
    "train": "bench.cli.train:Train",
    "embed": "bench.cli.train:Embed",
    "export": "bench.cli.train:Export",
    "transfer": "bench.cli.transfer:Transfer",
    "doctor": "bench.cli.doctor:Doctor",
}
PURPOSES = ("compare", "train", "score", "explain", "check", "report")  # in the order of the help; others follow
REPORT = "report"  # the word before the verbs of report


class VerbRegistry(Registry["type[Any] | str"]):
    """Dataclasses of verbs, or where they lie as "package.module:Class"."""

    def __init__(self, noun: str, built_in: str, needed: Sequence[str]) -> None:
        """`needed` are the attributes of a verb, in addition to its docstring; see `Registry`."""
        super().__init__(noun, built_in=built_in)
        self._needed = needed

    def add(self, name: str, one: "type[Any] | str", origin: str) -> None:
        """Add a verb; ValueError if it is incomplete or its name is taken."""
        if not re.fullmatch("[a-z][a-z0-9-]*", name):
            raise ValueError(
                f"{origin} adds the {self.noun} {name!r}: its name must be small letters, digits and hyphens"
            )
        if name == REPORT:
            raise self.clash(name, origin)
        if not isinstance(one, str):
            self._require_complete(name, one, origin)
        super().add(name, one, origin)

    def find(self, name: str, noun: str = "") -> "type[Any]":
        """Return a class; ValueError suggests the nearest name, or says why an added one cannot be used."""
        found = choose(name, self, noun or self.noun)
        if not isinstance(found, str):
            return found
        if self.is_built_in(name):
            return import_object(found)  # type: ignore[no-any-return]
        try:
            verb = import_object(found)
        except (ImportError, AttributeError) as error:
            reason = describe_error(str(error))
            raise ValueError(f"{self.origin(name)}: the {self.noun} {name} cannot be loaded: {reason}") from None
        self._require_complete(name, verb, self.origin(name))
        return verb  # type: ignore[no-any-return]

    def _require_complete(self, name: str, verb: object, origin: str) -> None:
        """Raise ValueError for a class that is no verb."""
        missing = [attribute for attribute in self._needed if not hasattr(verb, attribute)]
        if missing or not is_dataclass(verb) or not isinstance(verb, type) or verb.__doc__ is None:
            text = f"without {', '.join(missing)}" if missing else "that is no dataclass with a docstring"
            raise ValueError(f"{origin} adds the {self.noun} {name} {text}: see Command in bench/interfaces/verb.py")


VERBS = VerbRegistry("verb", "bench.cli.verbs:BUILT_IN", ("purpose", "resume_hint", "run"))
REPORT_VERBS = VerbRegistry("verb of report", "reports.verbs:BUILT_IN", ("run",))


def verbs_by_purpose() -> "dict[str, dict[str, type[Command]]]":
    """Return all verbs by the purpose under which the help lists them."""
    found: dict[str, dict[str, type[Command]]] = {purpose: {} for purpose in PURPOSES}
    for name in VERBS:
        verb = VERBS.find(name)
        found.setdefault(verb.purpose, {})[name] = verb
    return {purpose: verbs for purpose, verbs in found.items() if verbs}
