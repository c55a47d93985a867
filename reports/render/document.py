"""What every page is: one file that loads nothing, with its style, its one script, and the data that it is made of."""

import base64
import bz2
import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True, slots=True)
class Download:
    """A file that the page carries."""

    name: str
    what: str
    size: str
    url: Markup


@dataclass(frozen=True, slots=True)
class Panel:
    """One small chart of a set."""

    title: str
    chart: Markup


def rendered(template: str, **what: object) -> str:
    """Fill a template; every text in it is escaped."""
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
        **what,
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def csv_download(name: str, what: str, frame: pd.DataFrame) -> Download:
    """Return a frame as a file in the page."""
    return download(name, what, frame.to_csv(index=False, lineterminator="\n").encode())


def download(name: str, what: str, content: bytes) -> Download:
    """Return bytes as a file in the page, packed.

    By bzip2: of answers that are all zeros and ones it makes two thirds of what deflation does, in no more time.
    """
    small = bz2.compress(content)
    url = f"data:application/x-bzip2;base64,{base64.b64encode(small).decode()}"
    return Download(f"{name}.bz2", what, f"{max(1, round(len(small) / 1000)):,} kB", Markup(url))  # noqa: S704 - base64
