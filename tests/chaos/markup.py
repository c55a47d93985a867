"""Pages of documents whose fields are markup: none of it stands in a page as it was, nor acts on the terminal."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from bench.config import change
from bench.environment.circumstances import Circumstances
from bench.experiments import EXPERIMENTS
from bench.plan.model import SCALING_TITLE
from bench.record import Failure, Memory, Record, read_record, record_path, write_record
from reports.__main__ import main

MARKUP = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "</style><b>x")
MOST_RARELY = 30  # that the page of kept records shows one of their texts
KEPT = Path(__file__).parents[1] / "records"
ESCAPE = "\x1b[2J"


def markup_in_pages(folder: Path) -> list[str]:
    """Draw the pages of a comparison, of a history and of a plan; return what of the markup or the escapes is left."""
    results, history, plan = folder / "records", folder / "history", folder / "plan.json"
    _write_records(results)
    _write_history(history)
    plan.write_text(json.dumps(_plan()), encoding="utf-8")
    return [
        *_left("build", results, folder / "index.html"),
        *_left("history", history, folder / "charts.html"),
        *_left("plan", plan, folder / "plan.html"),
    ]


def markup_in_every_field(folder: Path) -> list[str]:
    """Draw the page of kept records with markup in each text that a record may hold; return what of it is left."""
    newest = max(path.name.split(".")[0] for path in KEPT.glob("*-smoke.speed.*.json"))
    results, page = folder / "every-field", folder / "every-field.html"
    results.mkdir()
    for path in KEPT.glob(f"{newest}.*.json"):
        _fill_texts(results / path.name, json.loads(path.read_bytes()), "".join(MARKUP))
    wrong = [*_left("build", results, page)]
    if page.is_file() and page.read_text(encoding="utf-8").count("alert(1)") < MOST_RARELY:
        wrong.append("the page shows hardly any text of its records")
    return wrong


def _fill_texts(path: Path, document: dict[str, Any], text: str) -> None:
    """Write a record, each of whose texts is replaced unless the record could not be read then."""

    def replace_in(part: Any) -> None:
        for key, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
            if isinstance(value, dict | list):
                replace_in(value)
            elif isinstance(value, str):
                part[key] = text
                path.write_text(json.dumps(document), encoding="utf-8")
                with suppress(ValueError):
                    read_record(path)
                    continue
                part[key] = value

    replace_in(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def _left(verb: str, of: Path, page: Path) -> Sequence[str]:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
        code = main([verb, str(of), "--out", str(page)])
    if code:
        return [f"{verb}: no page: {errors.getvalue()}"]
    text, said = page.read_text(encoding="utf-8"), out.getvalue()
    obeyed = [] if said.replace("\n", "").isprintable() else [f"{verb}: {said[:200]!r}"]
    return [f"{verb}: {one}" for one in MARKUP if one in text] + obeyed


def _write_records(results: Path) -> None:
    """Write runs that failed and runs that did not, whose names, reasons, machines and commits are markup."""
    results.mkdir()
    circumstances = Circumstances(
        machine=MARKUP[0],
        device="cpu",
        threads=1,
        precision="fp32",
        compiled=False,
        packages={MARKUP[1]: MARKUP[2]},
        commit=MARKUP[-1],
        started_at="2026-01-01T00:00:00Z",
    )
    memory = Memory(
        steps=1,
        trained_parameters=1,
        peak_rss_bytes=1,
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
        peak_tensor_bytes=1,
    )
    for number, text in enumerate(MARKUP):
        experiment = change(EXPERIMENTS["clip-tiny"], name=text, data=text)
        for kind, measured in (("failure", Failure(what=text, reason=text)), ("memory", memory)):
            record = Record(comparison="hostile", experiment=experiment, circumstances=circumstances, measured=measured)
            write_record(record, record_path(results, "hostile", kind, number))


def _write_history(history: Path) -> None:
    """Write the records, and pytest-benchmark's documents of two commits between which a counter changes."""
    _write_records(history)
    for number in range(2):
        benchmarks = [
            {
                "group": text,
                "name": text,
                "fullname": f"{text}{ESCAPE}",
                "extra_info": {"parameters": number, text: text},
                "stats": {"median": 1.0, "iqr": 0.1, "rounds": 5},
            }
            for text in MARKUP
        ]
        document = {
            "machine_info": {"fingerprint": "".join(MARKUP)},
            "commit_info": {"id": f"{number}{MARKUP[0]}", "time": f"2026-01-0{number + 1}T00:00:00Z"},
            "benchmarks": benchmarks,
            "datetime": f"2026-01-0{number + 1}T01:00:00+00:00",
        }
        (history / f"{number}.json").write_text(json.dumps(document), encoding="utf-8")


def _plan() -> dict[str, Any]:
    """Return a plan's document, of which titles, headings, cells and notes are markup."""
    curve = [
        {"experiment": text, "GPUs": gpus, "of one alone": 1.0, "communication, share": 0.0, MARKUP[-1]: text}
        for text in MARKUP
        for gpus in (1, 8)
    ]
    table = {"rows": [{text: text for text in MARKUP}], "note": "\n".join(MARKUP)}
    return {MARKUP[0]: table, MARKUP[-1]: table, SCALING_TITLE: {"rows": curve, "note": MARKUP[1]}}
