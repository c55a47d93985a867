"""Open Clip Art 0.18 (Debian's openclipart-svg): drawings dedicated to the public domain by their authors."""

import hashlib
import html
import re
from collections.abc import Iterator
from pathlib import Path

from bench.data.build_pack.shards import Pair, render_svg

LICENCE = "public domain (CC PublicDomain dedication)"
# Series of geometric figures and user-interface icon themes: 3,600 files without content for a caption.
SKIPPED = re.compile(
    "shapes/(stars|jigsaw)|special/|unsorted/duplicates|signs_and_symbols/led|computer/(buttons|icons/)|buttons/"
)
NO_KEYWORD = re.compile(
    r"unsorted|clipart|clip|art|hash.*|symbol|image|clip-art|united_nations_member|signs_and_symbols", re.DOTALL
)
NO_TITLE = re.compile(r"clipart by|svg road signs|aiga|gramastar|.*architetto|untitled|unnamed|drawing", re.IGNORECASE)
TITLE_NOISE = re.compile(r"part of [^,]*collection[^,]*|\(?\w{3} \w{3} \d+ [\d: ]+\)?", re.IGNORECASE)  # and dates
NO_DESCRIPTION = re.compile(r"http|collection|@|clip ?art|hash\(", re.IGNORECASE)


def openclipart_pairs(folder: Path) -> Iterator[Pair]:
    """Yield the drawings in path order, without repeats, undedicated and broken files."""
    seen: set[str] = set()
    for path in sorted(folder.rglob("*.svg")):
        name = path.relative_to(folder).as_posix()
        if SKIPPED.match(name) or path.is_symlink():
            continue
        svg = path.read_text(encoding="utf-8", errors="replace")
        digest = hashlib.sha256(re.sub(r"<metadata.*?</metadata>", "", svg, flags=re.DOTALL).encode()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        if not _is_public_domain(svg):
            continue
        try:
            image = render_svg(svg)
        except ValueError:  # resvg found no SVG, or no size
            continue
        folders = name.split("/")
        label = {"category": folders[0], "subcategory": "/".join(folders[:2]) if len(folders) > 2 else folders[0]}  # noqa: PLR2004
        yield Pair(re.sub(r"[^a-z0-9]+", "-", name[:-4].lower()), image, caption(svg, path.stem), LICENCE, label)


def caption(svg: str, stem: str) -> str:
    """Return title, description and up to six keywords from a drawing's metadata, as noisy as web alt text.

    The words of the file name replace a missing or meaningless title.
    """
    title = TITLE_NOISE.sub("", _element(svg, "title")).strip(" ,")
    if not title or NO_TITLE.match(title):
        title = _words(stem, _author(svg))
    title = re.sub(r"(?<=[a-z])\d+\b|\b\d+\b", "", re.sub(r"_+", " ", title))
    description = _element(svg, "description")
    if len(description) >= 100 or NO_DESCRIPTION.search(description) or description.lower() == title.lower():  # noqa: PLR2004
        description = ""
    parts = [re.sub(r"\s+", " ", title).strip(" -,."), re.sub(r"\s+", " ", description), *_keywords(svg)[:6]]
    return ", ".join(part for part in parts if part)


def _is_public_domain(svg: str) -> bool:
    """Return whether the metadata names the public domain; 67 of the package's files name nothing, or the GPL."""
    licence = re.search(r'<cc:license rdf:resource="([^"]*)"', svg)
    return licence is not None and "ublic" in licence.group(1)


def _element(svg: str, name: str) -> str:
    """Return the text of a Dublin Core element, or an empty string."""
    found = re.search(rf"<dc:{name}[^>]*>(.*?)</dc:{name}>", svg, re.DOTALL)
    return html.unescape(re.sub(r"<.*?>", "", found.group(1))).strip() if found else ""


def _author(svg: str) -> str:
    found = re.search(r"<dc:creator>.*?<dc:title>(.*?)</dc:title>", svg, re.DOTALL)
    return found.group(1).strip() if found else ""


def _words(stem: str, author: str) -> str:
    """Return a file name's words without numbers, single letters and the author's name, which is a frequent suffix."""
    words = re.sub(r"[_\-.]+", " ", stem)
    for name in re.findall(r"\w+", author.lower()):
        if len(name) > 2:  # noqa: PLR2004
            words = re.sub(rf"\b{re.escape(name[:7])}\w*", "", words.lower())
    return re.sub(r"\b\w?\d+\w?\b|\b\w\b", "", words)


def _keywords(svg: str) -> list[str]:
    found = (word.strip().lower() for word in re.findall(r"<rdf:li[^>]*>(.*?)</rdf:li>", svg, re.DOTALL))
    return [
        word
        for word in dict.fromkeys(found)
        if word and not NO_KEYWORD.fullmatch(word) and len(word) < 25  # noqa: PLR2004
    ]
