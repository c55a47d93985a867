"""A page: one file that loads no other, with its style, its script and its data."""

import base64
import bz2
import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.console.console import escape_unprintable
from bench.environment.files import atomic_write
from bench.interfaces.sections import Block, WarningBox
from bench.tables.tables import escape_spreadsheet_formula

TEMPLATES = Path(__file__).parents[1] / "templates"
LEFT_OUT = Markup("<strong>{} left out.</strong>")


@dataclass(frozen=True, slots=True)
class BuiltSection:
    """A section as it is drawn."""

    name: str  # its anchor
    title: str
    label: str  # in the navigation
    content: Markup


def render_page(
    title: str,
    heading: str,
    *,
    eyebrow: str,
    answer: Sequence[Block],
    facts: Sequence[str] = (),
    sections: Sequence[BuiltSection] = (),
) -> str:
    """Return a page: its heading, the answer, and the sections with a navigation."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            heading=heading,
            eyebrow=eyebrow,
            answer=render_blocks(answer),
            facts=facts,
            sections=sections,
            style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            script_hash=_base64(hashlib.sha256(script.encode()).digest()),
        )
    )


def render_blocks(blocks: Sequence[Block]) -> Markup:
    """Draw blocks beneath each other."""
    text: str = _environment().get_template("blocks.html").module.draw_all(blocks)  # type: ignore[attr-defined]
    return Markup(text)  # noqa: S704 - the template has escaped it


@cache
def _environment() -> Environment:
    """Return the templates' environment, which escapes text and refuses undefined names."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "kind": lambda block: type(block).__name__,
        "embed": _embed,
        "base64": _base64,
    }
    return environment


def _embed(content: bytes) -> tuple[Markup, str]:
    """Return the address of an embedded file, compressed by bzip2, and its size.

    bzip2 compresses strings of zeros and ones to two thirds of deflate's size, in no more time.
    """
    small = bz2.compress(content)
    url = f"data:application/x-bzip2;base64,{_base64(small)}"
    return Markup(url), f"{max(1, round(len(small) / 1000)):,} kB"  # noqa: S704 - base64


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def left_out(damaged: Sequence[str]) -> list[Block]:
    """Return a warning about damaged files that are left out; nothing if there are none."""
    if not damaged:
        return []
    files = "1 damaged file is" if len(damaged) == 1 else f"{len(damaged)} damaged files are"
    return [WarningBox(LEFT_OUT.format(files), damaged)]


def write_page(path: Path, content: bytes) -> None:
    """Write a file and print its path."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    print(escape_unprintable(str(path)))


def encode_csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Return rows as csv; a row may lack columns, and no text is a formula to a spreadsheet."""
    text = io.StringIO()
    columns = dict.fromkeys(chain.from_iterable(rows))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: escape_spreadsheet_formula(value) for name, value in row.items()})
    return text.getvalue().encode()
