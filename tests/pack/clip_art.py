"""Open Clip Art 0.18 (Debian's openclipart-svg), whose authors dedicated their drawings to the public domain."""

import hashlib
import html
import re
from collections.abc import Iterator
from pathlib import Path

from tests.pack.shards import Pair, render_svg

LICENCE = "public domain (CC PublicDomain dedication)"
# Series of geometric figures and user-interface icon themes: 3,600 files without content for a caption.
SKIPPED_FILES = re.compile(
    "shapes/(stars|jigsaw)|special/|unsorted/duplicates|signs_and_symbols/led|computer/(buttons|icons/)|buttons/"
)
NO_KEYWORD = re.compile(
    r"unsorted|clipart|clip|art|hash.*|symbol|image|clip-art|united_nations_member|signs_and_symbols",
    re.DOTALL,
)
MAX_KEYWORD = 25  # characters
MAX_KEYWORDS = 6
MAX_DESCRIPTION = 100  # characters
NO_TITLE = re.compile(
    r"clipart by|svg road signs|aiga|gramastar|.*architetto|untitled|unnamed|drawing", re.IGNORECASE
)
# And dates.
TITLE_NOISE = re.compile(
    r"part of [^,]*collection[^,]*|\(?\w{3} \w{3} \d+ [\d: ]+\)?", re.IGNORECASE
)
NO_DESCRIPTION = re.compile(r"http|collection|@|clip ?art|hash\(", re.IGNORECASE)


def openclipart_pairs(folder: Path) -> Iterator[Pair]:
    """Yield the drawings in path order, without repeats, undedicated and broken files."""
    digests: set[str] = set()
    for path in sorted(folder.rglob("*.svg")):
        name = path.relative_to(folder).as_posix()
        if SKIPPED_FILES.match(name) or path.is_symlink():
            continue
        svg = path.read_text(encoding="utf-8", errors="replace")
        digest = hashlib.sha256(
            re.sub(r"<metadata.*?</metadata>", "", svg, flags=re.DOTALL).encode()
        ).hexdigest()
        if digest in digests:
            continue
        digests.add(digest)
        licence = re.search(r'<cc:license rdf:resource="([^"]*)"', svg)
        if licence is None or "ublic" not in licence.group(1):  # 67 files name nothing, or the GPL
            continue
        try:
            image = render_svg(svg)
        except ValueError:  # resvg found no SVG, or no size
            continue
        *folders, _ = name.split("/")
        label = {"category": name.split("/")[0], "subcategory": "/".join(folders[:2]) or name}
        key = re.sub(r"[^a-z0-9]+", "-", name[:-4].lower())
        yield Pair(key, image, caption(svg, path.stem), LICENCE, label)


def caption(svg: str, stem: str) -> str:
    """Return title, description and up to six keywords from a drawing's metadata, as noisy as web alt text.

    The words of the file name replace a missing or meaningless title.
    """
    title = TITLE_NOISE.sub("", text_of_element(svg, "title")).strip(" ,")
    if not title or NO_TITLE.match(title):
        title = words_of_file_name(stem, svg)
    title = re.sub(r"(?<=[a-z])\d+\b|\b\d+\b", "", re.sub(r"_+", " ", title))
    description = text_of_element(svg, "description")
    is_repeated = description.lower() == title.lower()
    if len(description) >= MAX_DESCRIPTION or NO_DESCRIPTION.search(description) or is_repeated:
        description = ""
    title = re.sub(r"\s+", " ", title).strip(" -,.")
    description = re.sub(r"\s+", " ", description)
    return ", ".join(filter(None, [title, description, *keywords(svg)[:MAX_KEYWORDS]]))


def text_of_element(svg: str, name: str) -> str:
    """Return the text of a Dublin Core element, or an empty string."""
    element = re.search(rf"<dc:{name}[^>]*>(.*?)</dc:{name}>", svg, re.DOTALL)
    return html.unescape(re.sub(r"<.*?>", "", element.group(1))).strip() if element else ""


def words_of_file_name(stem: str, svg: str) -> str:
    """Return a file name's words without numbers, single letters and the author's name, which is a frequent suffix."""
    words = re.sub(r"[_\-.]+", " ", stem)
    author = re.search(r"<dc:creator>.*?<dc:title>(.*?)</dc:title>", svg, re.DOTALL)
    for name in re.findall(r"\w+", author.group(1).lower() if author else ""):
        if len(name) > 2:
            words = re.sub(rf"\b{re.escape(name[:7])}\w*", "", words.lower())
    return re.sub(r"\b\w?\d+\w?\b|\b\w\b", "", words)


def keywords(svg: str) -> list[str]:
    words = [
        word.strip().lower() for word in re.findall(r"<rdf:li[^>]*>(.*?)</rdf:li>", svg, re.DOTALL)
    ]
    return [
        word
        for word in dict.fromkeys(words)
        if 0 < len(word) < MAX_KEYWORD and not NO_KEYWORD.fullmatch(word)
    ]
