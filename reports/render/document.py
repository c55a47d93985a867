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
from bench.tables.formats import format_count_with_noun
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
        _make_template_environment()
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
    text: str = _make_template_environment().get_template("blocks.html").module.draw_all(blocks)  # type: ignore[attr-defined]
    return Markup(text)  # noqa: S704 - the template has escaped it


@cache
def _make_template_environment() -> Environment:
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
        "embed": _compress_to_data_url_and_size,
        "base64": _base64,
    }
    return environment


def _compress_to_data_url_and_size(content: bytes) -> tuple[Markup, str]:
    """Return the address of an embedded file, compressed by bzip2, and its size.

    bzip2 compresses strings of zeros and ones to two thirds of deflate's size, in no more time.
    """
    compressed = bz2.compress(content)
    url = f"data:application/x-bzip2;base64,{_base64(compressed)}"
    kilobytes = max(1, round(len(compressed) / 1000))
    return Markup(url), f"{kilobytes:,} kB"  # noqa: S704 - base64


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def damaged_files_warning(file_errors: Sequence[str]) -> list[Block]:
    """Return a warning that lists the errors of damaged files, which are left out; nothing if there are none."""
    if not file_errors:
        return []
    verb = "is" if len(file_errors) == 1 else "are"
    files = format_count_with_noun(len(file_errors), "damaged file")
    return [WarningBox(LEFT_OUT.format(f"{files} {verb}"), file_errors)]


def write_file_and_print_path(path: Path, content: bytes) -> None:
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
