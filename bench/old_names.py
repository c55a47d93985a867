"""Names of earlier versions: in records and files, where they stay readable, and on command lines, for one release."""

import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

FIELDS = {
    "simulated_batch": "simulated_global_batch",
    "last_learning_rate": "min_learning_rate",
    "planted_delay": "injected_slowdown",
}  # of an experiment
VALUES = {"text_padding": {"none": "bucketed", "batch": "longest", "full": "max_length"}}  # of its fields
FACTORS = {"columns": "global_negatives", **FIELDS}  # of a ladder
RANDOM_INIT = ("random tower", "random init")  # a subject's name, or what it begins with
KINDS = {"peer": "reference"}  # of a record
LADDER = {"cells": "configurations", "lines": "references"}
FORMAT = 3  # the last format of records with these names

VERBS = {"peer": "reference"}
OPTIONS = {
    "explain": {"against": "baseline", "combinations": "factorial"},
    "measure": {"published": "allow-differences"},
    "plan": {"check": "validate-local"},
    "chaos": {"share": "fraction"},
}


def upgrade_experiment(fields: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment's fields under their names of today, with their values of today."""
    upgraded = {FIELDS.get(name, name): value for name, value in fields.items()}
    for name, values in VALUES.items():
        if name in upgraded:
            upgraded[name] = values.get(upgraded[name], upgraded[name])
    return upgraded | {"name": upgrade_name(upgraded["name"])}


def upgrade_holder(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document that has an experiment, as a tower's or a checkpoint's has, with that of today's names."""
    return document | {"experiment": upgrade_experiment(document["experiment"])}


def upgrade_name(name: str) -> str:
    """Return an experiment's name with its settings, `clip-tiny[text_padding=full]`, as they are written today."""
    if not any(f"{field}=" in name for field in (*FIELDS, *VALUES)):
        return name
    base, *groups = re.split(r"(?<=[\w\]])\[(?=\w+=)", name)
    return base + "".join(f"[{','.join(sorted(map(upgrade_setting, _settings(group))))}]" for group in groups)


def upgrade_setting(setting: str) -> str:
    """Return FIELD=VALUE as it is written today."""
    field, equals, value = setting.partition("=")
    return f"{FIELDS.get(field, field)}{equals}{VALUES.get(field, {}).get(value, value)}"


def upgrade_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record's document of an older format with the names and values of today.

    One of the format before is then of today's, for only names have changed; what an older one means differently stays
    its own.
    """
    measured = record["measured"]
    kind = upgrade_kind(measured["kind"])
    measured = measured | {"kind": kind}
    if kind == "ladder":
        measured = _upgrade_ladder(measured)
    if kind == "transfer":
        measured["subject"] = upgrade_name(upgrade_subject(measured["subject"]))
    experiment = record["experiment"]
    return record | {
        "format": record["format"] + (record["format"] == FORMAT),
        "experiment": experiment and upgrade_experiment(experiment),
        "measured": measured,
    }


def upgrade_subject(subject: str) -> str:
    """Return the name of what was scored as it is written today."""
    old, new = RANDOM_INIT
    return new + subject.removeprefix(old) if subject == old or subject.startswith(f"{old} of ") else subject


def upgrade_kind(kind: str) -> str:
    """Return a record's kind, which its file's name has, too, as it is called today."""
    return KINDS.get(kind, kind)


def upgrade_arguments(verb: str, arguments: Sequence[str]) -> list[str]:
    """Return a verb's arguments with options as they are spelled today; an old spelling prints the new one once."""
    options = OPTIONS.get(verb, {})
    return [_upgrade_option(argument, options) for argument in arguments]


def upgrade_verb(verb: str) -> str:
    """Return the verb as it is called today; an old name prints the new one once."""
    if verb in VERBS:
        _tell(verb, VERBS[verb])
    return VERBS.get(verb, verb)


def upgrade_typed_setting(setting: str) -> str:
    """Return FIELD=VALUE as it is written today; an old spelling prints the new one once."""
    if (upgraded := upgrade_setting(setting)) != setting:
        _tell(setting, upgraded)
    return upgraded


def upgrade_typed_factor(factor: str) -> str:
    """Return the factor of a ladder as it is called today, FIELD=VALUE, too; an old name prints the new one once."""
    if "=" in factor:
        return upgrade_typed_setting(factor)
    if factor in FACTORS:
        _tell(factor, FACTORS[factor])
    return FACTORS.get(factor, factor)


def _upgrade_option(argument: str, options: dict[str, str]) -> str:
    match = re.fullmatch(r"--(no-)?([\w-]+)(=.*)?", argument, re.DOTALL)
    if match is None or (new := options.get(match[2].replace("_", "-"))) is None:
        return argument
    no = match[1] or ""
    _tell(f"--{no}{match[2]}", f"--{no}{new}")
    return f"--{no}{new}{match[3] or ''}"


def _upgrade_ladder(ladder: dict[str, Any]) -> dict[str, Any]:
    def factor(name: str) -> str:
        return FACTORS.get(name, name)

    ladder = {LADDER.get(name, name): value for name, value in ladder.items()}
    ladder["factors"] = [
        {"name": factor(one["name"]), **{end: upgrade_setting(one[end]) for end in ("before", "after")}}
        for one in ladder["factors"]
    ]
    ladder["configurations"] = [
        {
            "experiment": upgrade_name(one["experiment"]),
            "stage": one["rung"],
            "after": [factor(name) for name in one["after"]],
        }
        for one in ladder["configurations"]
    ]
    if "left_out" in ladder:
        ladder["left_out"] = {factor(name): reason for name, reason in ladder["left_out"].items()}
    return ladder


def _settings(text: str) -> list[str]:
    """Cut `a=1,b=[2,3]]` at the commas that part settings."""
    return re.split(r",(?=\w+=)", text.removesuffix("]"))


@cache
def _tell(old: str, new: str) -> None:
    print(f"{old} is now {new}; the old spelling goes with the next release", file=sys.stderr)
