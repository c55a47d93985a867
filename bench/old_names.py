"""Names of earlier versions: in records and files, where they stay readable, and on command lines, for one release."""

import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

EXPERIMENT_FIELDS = {
    "simulated_batch": "simulated_global_batch",
    "last_learning_rate": "min_learning_rate",
    "planted_delay": "injected_slowdown",
}
FIELD_VALUES = {"text_padding": {"none": "bucketed", "batch": "longest", "full": "max_length"}}
FACTORS = {"columns": "global_negatives", **EXPERIMENT_FIELDS}  # of a ladder
RANDOM_INIT = ("random tower", "random init")  # a subject's name, or what it begins with
RECORD_KINDS = {"peer": "reference"}  # of a record
LADDER_FIELDS = {"cells": "configurations", "lines": "references"}
FORMAT = 3  # the last format of records with these names
TASK, TASK_FORMAT = ("silhouettes, ", "silhouettes "), 4  # the beginning of a task's name; the last format with it

VERBS = {"peer": "reference"}
OPTIONS = {
    "explain": {"against": "baseline", "combinations": "factorial"},
    "measure": {"published": "allow-differences"},
    "plan": {"check": "validate-local"},
    "chaos": {"share": "fraction"},
}


def upgrade_experiment(fields: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment's fields under their names of today, with their values of today."""
    upgraded = {EXPERIMENT_FIELDS.get(name, name): value for name, value in fields.items()}
    for name, values in FIELD_VALUES.items():
        if name in upgraded:
            upgraded[name] = values.get(upgraded[name], upgraded[name])
    return upgraded | {"name": upgrade_experiment_name(upgraded["name"])}


def upgrade_experiment_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document that has an experiment, as a tower's or a checkpoint's has, with that of today's names."""
    return document | {"experiment": upgrade_experiment(document["experiment"])}


def upgrade_experiment_name(name: str) -> str:
    """Return an experiment's name with its settings, `clip-tiny[text_padding=full]`, as they are written today."""
    if not any(f"{field}=" in name for field in (*EXPERIMENT_FIELDS, *FIELD_VALUES)):
        return name
    base, groups = split_name(name)
    return base + "".join(f"[{','.join(sorted(map(upgrade_setting, group)))}]" for group in groups)


def split_name(name: str) -> tuple[str, list[list[str]]]:
    """Return an experiment's name without its settings, and its groups of settings FIELD=VALUE."""
    base, *groups = re.split(r"(?<=[\w\]])\[(?=\w+=)", name)
    return base, [re.split(r",(?=\w+=)", group.removesuffix("]")) for group in groups]


def upgrade_setting(setting: str) -> str:
    """Return FIELD=VALUE as it is written today."""
    field, equals, value = setting.partition("=")
    return f"{EXPERIMENT_FIELDS.get(field, field)}{equals}{FIELD_VALUES.get(field, {}).get(value, value)}"


def upgrade_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record's document of an older format with the names and values of today.

    One of the format before is then of today's, for only names have changed; what an older one means differently stays
    its own.
    """
    if record["format"] <= FORMAT:
        record = _upgrade_first_names(record)
    measured, number = record["measured"], record["format"]
    for part in ("scores", "metrics") if measured["kind"] == "transfer" else ():
        measured = measured | {part: [one | {"task": upgrade_task(one["task"])} for one in measured.get(part, [])]}
    return record | {"format": number + (number == TASK_FORMAT), "measured": measured}


def _upgrade_first_names(record: dict[str, Any]) -> dict[str, Any]:
    measured = record["measured"] | {"kind": upgrade_kind(record["measured"]["kind"])}
    if measured["kind"] == "ladder":
        measured = _upgrade_ladder(measured)
    if measured["kind"] == "transfer":
        measured["subject"] = upgrade_experiment_name(upgrade_subject(measured["subject"]))
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


def upgrade_task(task: str) -> str:
    """Return a task's name as it is written today."""
    return re.sub(rf"^{TASK[0]}(?=\d+ per class)", TASK[1], task)


def first_task_name(task: str) -> str:
    """Return the first name of a task of today: the salt of its splits and draws, which stay as they were."""
    return re.sub(rf"^{TASK[1]}(?=\d+ per class)", TASK[0], task)


def upgrade_typed_task(task: str) -> str:
    """Return a task's name as it is written today; an old name prints the new one once."""
    return _report_rename(task, upgrade_task(task))


def upgrade_kind(kind: str) -> str:
    """Return a record's kind, which its file's name has, too, as it is called today."""
    return RECORD_KINDS.get(kind, kind)


def upgrade_options(verb: str, arguments: Sequence[str]) -> list[str]:
    """Return a verb's arguments with options as they are spelled today; an old spelling prints the new one once."""
    options = OPTIONS.get(verb, {})
    return [_upgrade_option(argument, options) for argument in arguments]


def upgrade_verb(verb: str) -> str:
    """Return the verb as it is called today; an old name prints the new one once."""
    return _report_rename(verb, VERBS.get(verb, verb))


def upgrade_typed_setting(setting: str) -> str:
    """Return FIELD=VALUE as it is written today; an old spelling prints the new one once."""
    return _report_rename(setting, upgrade_setting(setting))


def upgrade_typed_factor(factor: str) -> str:
    """Return the factor of a ladder as it is called today, FIELD=VALUE, too; an old name prints the new one once."""
    return upgrade_typed_setting(factor) if "=" in factor else _report_rename(factor, FACTORS.get(factor, factor))


def _upgrade_option(argument: str, options: dict[str, str]) -> str:
    match = re.fullmatch(r"(--(?:no-)?)([\w-]+)(=.*)?", argument, re.DOTALL)
    if match is None or (new := options.get(match[2].replace("_", "-"))) is None:
        return argument
    return _report_rename(match[1] + match[2], match[1] + new) + (match[3] or "")


def _upgrade_ladder(ladder: dict[str, Any]) -> dict[str, Any]:
    ladder = {LADDER_FIELDS.get(name, name): value for name, value in ladder.items()}
    ladder["factors"] = [
        {"name": FACTORS.get(factor["name"], factor["name"])}
        | {end: upgrade_setting(factor[end]) for end in ("before", "after")}
        for factor in ladder["factors"]
    ]
    ladder["configurations"] = [
        {
            "experiment": upgrade_experiment_name(configuration["experiment"]),
            "stage": configuration["rung"],
            "after": [FACTORS.get(name, name) for name in configuration["after"]],
        }
        for configuration in ladder["configurations"]
    ]
    if "left_out" in ladder:
        ladder["left_out"] = {FACTORS.get(name, name): reason for name, reason in ladder["left_out"].items()}
    return ladder


@cache
def _report_rename(old: str, new: str) -> str:
    """Return the new spelling; print it once if it differs."""
    if new != old:
        print(f"{old} is now {new}; the old spelling goes with the next release", file=sys.stderr)
    return new
