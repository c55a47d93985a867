"""A page: one file that loads no other, with its style, its script and its data."""

import base64
import bz2
import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.render.tables import HtmlTable

TEMPLATES = Path(__file__).parents[1] / "templates"
# Of a cell that a spreadsheet computes, full-width characters included.
FORMULA_STARTS = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")


@dataclass(frozen=True, slots=True)
class Download:
    """A file embedded in the page."""

    name: str
    description: str
    size: str
    url: Markup


@dataclass(frozen=True, slots=True)
class Panel:
    """One small chart of a set, with its table where no other chart shares it."""

    title: str
    chart: Markup
    note: str = ""
    table: HtmlTable | None = None


def render_template(template: str, **variables: object) -> str:
    """Fill a template; autoescape is on."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        **variables,
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def encode_csv(frame: pd.DataFrame) -> bytes:
    """Write a table; a text that a spreadsheet would compute begins with an apostrophe, and numbers are unchanged.

    Source: OWASP, "CSV Injection".
    """

    def defuse(cell: object) -> object:
        return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA_STARTS) else cell

    return frame.map(defuse).to_csv(index=False, lineterminator="\n").encode()


def embed_csv(name: str, description: str, frame: pd.DataFrame) -> Download:
    """Return a frame as an embedded CSV file."""
    return embed_file(name, description, encode_csv(frame))


def embed_file(name: str, description: str, content: bytes) -> Download:
    """Return bytes as an embedded file, compressed by bzip2.

    Of strings of zeros and ones bzip2 makes two thirds of deflate's size, in no more time.
    """
    small = bz2.compress(content)
    url = f"data:application/x-bzip2;base64,{base64.b64encode(small).decode()}"
    return Download(f"{name}.bz2", description, f"{max(1, round(len(small) / 1000)):,} kB", Markup(url))  # noqa: S704 - base64
