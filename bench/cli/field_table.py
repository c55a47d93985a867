"""The fields of an experiment as a table: what each accepts, its default, and what it is."""

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import NODEFAULT

from bench.experiment.config import FIELD_FACTS, dotted_field_name, fields_of_method
from bench.interfaces.method import METHODS
from bench.tables.tables import Table

BOUNDS = {"ge": "from {}", "gt": "over {}", "le": "to {}", "lt": "under {}"}


def field_table() -> Table:
    """Return the fields of experiments, with those that methods of extensions declare."""
    all_facts = dict(FIELD_FACTS)
    for method in METHODS:
        all_facts |= fields_of_method(method)
    rows = [
        {
            "field": dotted_field_name(name),
            "accepts": describe_type(facts.kind),
            "default": "" if facts.default is NODEFAULT else str(facts.default),
            "what it is": facts.description,
            "roles": ", ".join(facts.roles),
        }
        for name, facts in all_facts.items()
    ]
    note = (
        "--set FIELD=VALUE changes a field; its group can be left out.\n"
        "Without a default, each named experiment has its own value."
    )
    return Table.of_figures("Fields of an experiment", rows, note)


def describe_type(kind: Any) -> str:
    """Describe in words the values that a type accepts."""
    origin = get_origin(kind)
    arguments = get_args(kind)
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(describe_type, arguments))
    if origin is tuple:
        return f"list of {describe_type(arguments[0])}"
    if origin is Annotated:
        words = [describe_type(arguments[0])]
        for limits in arguments[1:]:
            for name, text in BOUNDS.items():
                limit = getattr(limits, name)
                if limit is not None:
                    words.append(text.format(limit))
        return " ".join(words)
    return {int: "number", float: "number", str: "text", bool: "true, false", type(None): "null"}[
        kind
    ]
