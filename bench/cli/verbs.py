"""The verbs of the command line by name; each is imported when it is needed. No torch here."""

import re
from dataclasses import is_dataclass
from typing import TYPE_CHECKING

from bench.config import choose
from bench.console.console import describe_error
from bench.registry import Registry, import_object

if TYPE_CHECKING:
    from bench.cli.options import Command

BUILT_IN = {  # where each verb lies, in the order of the help
    "list": "bench.cli.compare:List",
    "measure": "bench.cli.compare:Measure",
    "train": "bench.cli.train:Train",
    "embed": "bench.cli.train:Embed",
    "export": "bench.cli.train:Export",
    "transfer": "bench.cli.transfer:Transfer",
    "explain": "bench.cli.explain:ExplainRatio",
    "plan": "bench.cli.plan:Plan",
    "doctor": "bench.cli.doctor:Doctor",
    "regress": "bench.cli.suites:Regress",
    "history": "bench.cli.suites:History",
}
REPORT_VERBS = {  # of the command line of `reports`
    "report": "Build pages, charts over commits and exports from records.",
    "claim": "List claims of papers with their verdicts from records, or show the card of one claim.",
}
VERBS = Registry["type[Command] | str"]("verb", "bench.cli.verbs:BUILT_IN")
NEEDED = ("purpose", "resume_hint", "run")  # attributes of a verb, in addition to its docstring


def add_verb(name: str, verb: "type[Command] | str", origin: str) -> None:
    """Add a verb: its class, or where that lies as "package.module:Class"; ValueError if it is incomplete or taken."""
    if not re.fullmatch("[a-z][a-z0-9-]*", name):
        raise ValueError(f"{origin} adds the verb {name!r}: its name must be small letters, digits and hyphens")
    if name in REPORT_VERBS:
        raise ValueError(f"{origin} adds the verb {name}, which this program has already: give it another name")
    if not isinstance(verb, str):
        _require_complete(name, verb, origin)
    VERBS.add(name, verb, origin)


def get_verb(name: str) -> "type[Command]":
    """Return the class of a verb; ValueError suggests the nearest name, or says why an added one cannot be used."""
    found = choose(name, VERBS, VERBS.noun)
    if not isinstance(found, str):
        return found
    if VERBS.is_built_in(name):
        return import_object(found)  # type: ignore[no-any-return]
    try:
        verb = import_object(found)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{VERBS.origin(name)}: the verb {name} cannot be loaded: {describe_error(str(error))}"
        ) from None
    _require_complete(name, verb, VERBS.origin(name))
    return verb  # type: ignore[no-any-return]


def verbs_by_purpose() -> "dict[str, dict[str, type[Command]]]":
    """Return all verbs by the purpose under which the help lists them."""
    found = dict[str, "dict[str, type[Command]]"]()
    for name in VERBS:
        verb = get_verb(name)
        found.setdefault(verb.purpose, {})[name] = verb
    return found


def _require_complete(name: str, verb: object, origin: str) -> None:
    """Raise ValueError for a class that is no verb."""
    missing = [attribute for attribute in NEEDED if not hasattr(verb, attribute)]
    if missing or not is_dataclass(verb) or not isinstance(verb, type) or verb.__doc__ is None:
        text = f"without {', '.join(missing)}" if missing else "that is no dataclass with a docstring"
        raise ValueError(f"{origin} adds the verb {name} {text}: see Command in bench/cli/options.py")
