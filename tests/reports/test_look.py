"""What can be checked of a look: contrast, colours that the page owns."""

import base64
import hashlib
import re

import pytest

from reports.page import render_comparison_page
from reports.render.document import TEMPLATES
from reports.render.svg import (
    CSS,
    SERIES,
    colour_and_marker,
    figure_to_svg,
    open_figure,
)
from tests.reports.conftest import speed_record

ON_PAPER = ("ink", "muted", "link", *(f"series-{number}" for number in range(1, len(SERIES) + 1)))


def themes() -> dict[str, dict[str, str]]:
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)")
    return {
        name: dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", part))
        for name, part in (("light", light), ("dark", dark))
    }


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ON_PAPER)
def test_text_has_enough_contrast(theme: str, name: str) -> None:
    colours = themes()[theme]
    assert contrast(colours[name], colours["paper"]) >= 4.5
    assert contrast(colours["muted"], colours["raised"]) >= 4.5
    assert contrast(colours["warn"], colours["warn-paper"]) >= 4.5


def test_every_series_has_a_distinct_colour_and_marker() -> None:
    looks = [colour_and_marker(index) for index in range(64)]
    assert len(set(looks)) == 64


def test_charts_take_colours_and_fonts_from_the_style_sheet() -> None:
    with open_figure(100, 100) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=SERIES[0])
        axes.set_title('<i>#a1b201 font-family: y; id="')
        axes.set_xlabel("$\\oops$")  # a formula to matplotlib, and a wrong one
        drawn = figure_to_svg(figure, "name", 'a "label"')
    assert "$\\oops$" in drawn
    assert not re.search(r"(fill|stroke): ?#", drawn)
    assert CSS[SERIES[0]] in drawn
    assert 'aria-label="a &#34;label&#34;"' in drawn
    assert "&lt;i&gt;#a1b201 font-family: y; id=" in drawn
    assert 'style="font-family' not in drawn


def test_the_policy_allows_the_one_script_and_nothing_else() -> None:
    text = render_comparison_page("one", [speed_record("clip-tiny", 0)])
    script = text.split("<script>")[1].split("</script>", maxsplit=1)[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{allowed}'"
        in text
    )
    assert text.count("<script") == 1
    assert not re.search(r"\son[a-z]+=", text)
