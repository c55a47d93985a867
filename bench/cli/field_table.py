"""The fields of an experiment as a table. No torch here."""

from typing import get_args

from msgspec import NODEFAULT

from bench.experiment.config import FIELD_DECLARATIONS, get_declared_method_fields
from bench.interfaces.method import METHODS
from bench.tables.tables import Table

NOTE = (
    "--set FIELD=VALUE changes a field. Without a default, each named experiment has its own value."
)


def experiment_field_table() -> Table:
    """Return the fields of experiments, with those that methods of extensions declare."""
    all_facts = dict(FIELD_DECLARATIONS)
    for method in METHODS:
        all_facts |= get_declared_method_fields(method)
    rows = []
    for name, facts in all_facts.items():
        choices = [choice for choice in get_args(facts.kind) if isinstance(choice, str)]
        row = {
            "field": name,
            "group": facts.group,
            "choices": ", ".join(choices),
            "default": "" if facts.default is NODEFAULT else str(facts.default),
            "what it is": facts.description,
        }
        rows.append(row)
    return Table.from_dicts("Fields of an experiment", rows, NOTE)
