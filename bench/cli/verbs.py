"""The verbs of the command line and those of `report` by name; each is imported when it is needed. No torch here."""

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.console.console import describe_error
from bench.experiment.config import choose
from bench.interfaces.registry import Registry, import_object

BUILT_IN = {  # where each verb lies, in the order of the help
    "list": "bench.cli.listing:List",
    "measure": "bench.cli.measure:Measure",
    "train": "bench.cli.train:Train",
    "embed": "bench.cli.tower_files:Embed",
    "export": "bench.cli.tower_files:Export",
    "transfer": "bench.cli.transfer:Transfer",
    "doctor": "bench.cli.doctor:Doctor",
}
# In the order of the help; others follow.
PURPOSES = (
    "compare",
    "train",
    "score",
    "explain",
    "check",
    "report",
)
REPORT = "report"  # the word before the verbs of report
# Of the source of a verb: the first line of its docstring, and its purpose.
SUMMARY = (
    r'^class {class_name}\b[^"]*"""(?P<summary>[^\n]*?)(""")?$.*?'
    r'^    purpose(: ClassVar\[str\])? = "(?P<purpose>\w+)"'
)


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
            raise ValueError(
                f"{self.origin(name)}: the {self.noun} {name} cannot be loaded: {reason}"
            ) from None
        self._require_complete(name, verb, self.origin(name))
        return verb  # type: ignore[no-any-return]

    def summarize(self, name: str) -> tuple[str, str]:
        """Return the purpose and the first line of the help of a verb, whose module is read and not imported."""
        place = self[name]
        if isinstance(place, str):
            module, _, class_name = place.partition(":")
            spec = find_spec(module)
            if spec is not None and spec.origin is not None:
                pattern = SUMMARY.format(class_name=re.escape(class_name))
                match = re.search(
                    pattern, Path(spec.origin).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
                )
                if match:
                    return match["purpose"], match["summary"]
        verb = self.find(name)
        return verb.purpose, (verb.__doc__ or "").partition("\n")[0]

    def _require_complete(self, name: str, verb: object, origin: str) -> None:
        """Raise ValueError for a class that is no verb."""
        missing = [attribute for attribute in self._needed if not hasattr(verb, attribute)]
        if missing or not is_dataclass(verb) or not isinstance(verb, type) or verb.__doc__ is None:
            text = (
                f"without {', '.join(missing)}"
                if missing
                else "that is no dataclass with a docstring"
            )
            raise ValueError(
                f"{origin} adds the {self.noun} {name} {text}: see Command in bench/interfaces/verb.py"
            )


VERBS = VerbRegistry("verb", "bench.cli.verbs:BUILT_IN", ("purpose", "resume_hint", "run"))
REPORT_VERBS = VerbRegistry("verb of report", "reports.verbs:BUILT_IN", ("run",))


def verbs_by_purpose() -> dict[str, dict[str, str]]:
    """Return the first sentence of the help of each verb, by the purpose under which the help lists it, and by name."""
    grouped: dict[str, dict[str, str]] = {purpose: {} for purpose in PURPOSES}
    for name in VERBS:
        purpose, summary = VERBS.summarize(name)
        grouped.setdefault(purpose, {})[name] = summary
    return {purpose: verbs for purpose, verbs in grouped.items() if verbs}
