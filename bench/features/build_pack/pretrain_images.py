"""Images of pre-training, and Twemoji: emoji of seven vendors, icons of Iconify's sets, and Open Clip Art.

Names and keywords of emoji are those of Unicode's CLDR (emojibase-data). The drawings of Open Clip Art 0.18 (Debian's
openclipart-svg) were dedicated to the public domain by their authors.
"""

import hashlib
import html
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bench.features.build_pack.shards import Pair, render_svg

LICENCES = {
    "noto": "Apache-2.0",
    "fluent-emoji": "MIT",
    "fluent-emoji-flat": "MIT",
    "fluent-3d": "MIT",
    "fxemoji": "Apache-2.0",
    "emojione": "CC-BY-4.0",
    "twemoji": "CC-BY-4.0",
}
TEXTS = "emojibase-data/en"  # this and the folders below are relative to node_modules
FLUENT_3D = "@lobehub/fluent-emoji-3d/assets"
EXCLUDED_GROUPS = (None, 2, 9)  # emojibase's groups: single letters, components (skin tones, hair), flags
NUMBERED_NAME = re.compile(r"\d{2,}$")  # numerical-sorting-12: a name that does not describe the icon
OPENCLIPART_LICENCE = "public domain (CC PublicDomain dedication)"
# Series of geometric figures and user-interface icon themes: 3,600 files without content for a caption.
SKIPPED_FILES = re.compile(
    "shapes/(stars|jigsaw)|special/|unsorted/duplicates|signs_and_symbols/led|computer/(buttons|icons/)|buttons/"
)
NO_KEYWORD = re.compile(
    r"unsorted|clipart|clip|art|hash.*|symbol|image|clip-art|united_nations_member|signs_and_symbols", re.DOTALL
)
MAX_KEYWORD = 25  # characters
NO_TITLE = re.compile(r"clipart by|svg road signs|aiga|gramastar|.*architetto|untitled|unnamed|drawing", re.IGNORECASE)
TITLE_NOISE = re.compile(r"part of [^,]*collection[^,]*|\(?\w{3} \w{3} \d+ [\d: ]+\)?", re.IGNORECASE)  # and dates
NO_DESCRIPTION = re.compile(r"http|collection|@|clip ?art|hash\(", re.IGNORECASE)


class IconSet:
    """Drawings of the icons.json (Iconify's format) of an unpacked @iconify-json package."""

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "icons.json").read_bytes())
        self.icons: dict[str, dict[str, Any]] = content["icons"]  # by name
        self.size = content.get("width", 16), content.get("height", 16)  # default width and height of an icon
        parents = {name: alias["parent"] for name, alias in content.get("aliases", {}).items()}
        aliases = {name: parent for name, parent in parents.items() if parent in self.icons}
        # The drawing's own name by every name. An alias of an alias is left out; mirrored ones (hFlip) are drawn
        # unmirrored, as in the shipped pack.
        self.names = {name: name for name in self.icons} | aliases

    def draw(self, name: str) -> Image.Image:
        """Render an icon by its own name."""
        icon = self.icons[name]
        width, height = icon.get("width", self.size[0]), icon.get("height", self.size[1])
        return render_svg(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}" '
            f'width="{width}" height="{height}">{icon["body"]}</svg>'
        )


def icon_pairs(folder: Path, licence: str) -> Iterator[Pair]:
    """Yield a set's icons by name, captioned with the words of the name."""
    icons = IconSet(folder)
    for name, icon in sorted(icons.icons.items()):
        if not icon.get("hidden") and not NUMBERED_NAME.search(name):
            yield Pair(name, icons.draw(name), name.replace("-", " "), licence)


def vendor_files(npm: Path, vendor: str) -> tuple[Path, ...]:
    """Return the files and folders that a vendor's emoji are read from."""
    images = npm / FLUENT_3D if vendor == "fluent-3d" else npm / "@iconify-json" / vendor / "icons.json"
    names = (npm / "@iconify-json/fluent-emoji-flat/chars.json",) if vendor == "fluent-emoji" else ()
    return (npm / TEXTS / "data.json", npm / TEXTS / "messages.json", images, *names)


def emoji_pairs(npm: Path, vendor: str) -> Iterator[Pair]:
    """Yield a vendor's emoji without skin tones, in the order of their code points."""
    texts = EmojiTexts(npm)
    images = _find_renders(npm, texts) if vendor == "fluent-3d" else _find_icons_by_code(npm, vendor, texts)
    for code, draw_emoji in sorted(images.items()):
        yield Pair(code.lower(), draw_emoji(), texts.caption(code, vendor), LICENCES[vendor], texts.label(code))


class EmojiTexts:
    """Names, keywords and groups of all emoji except flags, by hexadecimal code points ("1F441-FE0F")."""

    def __init__(self, npm: Path) -> None:
        messages = json.loads((npm / TEXTS / "messages.json").read_bytes())
        self.groups = {group["order"]: group["key"] for group in messages["groups"]}
        self.subgroups = {group["order"]: group["key"] for group in messages["subgroups"]}
        emoji = json.loads((npm / TEXTS / "data.json").read_bytes())
        usable = (each for each in emoji if each.get("group") not in EXCLUDED_GROUPS)
        self.emoji: dict[str, dict[str, Any]] = {each["hexcode"]: each for each in usable}
        self._by_code = {_normalise_code(code): code for code in self.emoji}
        self._by_name = {_normalise_name(each["label"]): code for code, each in self.emoji.items()}

    def code(self, code: str) -> str | None:
        """Return the emoji of these code points; the variation selector and the case are ignored."""
        return self._by_code.get(_normalise_code(code))

    def code_of_name(self, name: str) -> str | None:
        """Return the emoji of this name; all but its letters and digits is ignored."""
        return self._by_name.get(_normalise_name(name))

    def caption(self, code: str, vendor: str) -> str:
        """Return the CLDR short name and one to four keywords that it does not contain, drawn per vendor."""
        emoji = self.emoji[code]
        generator = random.Random(hashlib.sha256(f"{code}/{vendor}".encode()).digest())  # noqa: S311 - not for secrets
        named = set(re.findall(r"\w+", emoji["label"].lower()))
        keywords = [
            word for word in emoji.get("tags", []) if word.lower() not in named and not re.fullmatch(r"[\W\d:]+", word)
        ]
        generator.shuffle(keywords)
        return ", ".join([emoji["label"], *keywords[: generator.randint(1, 4)]])

    def label(self, code: str) -> dict[str, str]:
        """Return the emoji's name and groups, from which the transfer tasks take their classes."""
        emoji = self.emoji[code]
        group, subgroup = self.groups[emoji["group"]], self.subgroups[emoji["subgroup"]]
        return {"concept": emoji["label"], "group": group, "subgroup": subgroup}


def _find_renders(npm: Path, texts: EmojiTexts) -> dict[str, Callable[[], Image.Image]]:
    """Return Fluent's 3D renders, 256 pixels, one file per emoji."""
    paths = sorted((npm / FLUENT_3D).glob("*.webp"))
    return {code: partial(_open_image, path) for path in paths if (code := texts.code(path.stem))}


def _find_icons_by_code(npm: Path, vendor: str, texts: EmojiTexts) -> dict[str, Callable[[], Image.Image]]:
    """Find an icon set's emoji by the code points that it lists, the others by the emoji's name."""
    folder = npm / "@iconify-json"
    icons = IconSet(folder / vendor)
    # fluent-emoji lists no code points; its icons have the names of the flat set
    listing = folder / ("fluent-emoji-flat" if vendor == "fluent-emoji" else vendor) / "chars.json"
    listed = json.loads(listing.read_bytes()) if listing.is_file() else {}
    found: dict[str, str] = {}
    for code_points, name in listed.items():
        if (code := texts.code(code_points)) and name in icons.names:
            found[code] = icons.names[name]
    for name, own_name in icons.names.items():
        if (code := texts.code_of_name(name)) and code not in found:
            found[code] = own_name
    return {code: partial(icons.draw, name) for code, name in found.items()}


def _open_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGBA")


def _normalise_code(code: str) -> str:
    return code.upper().replace("-FE0F", "")


def _normalise_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def openclipart_pairs(folder: Path) -> Iterator[Pair]:
    """Yield the drawings in path order, without repeats, undedicated and broken files."""
    seen: set[str] = set()
    for path in sorted(folder.rglob("*.svg")):
        name = path.relative_to(folder).as_posix()
        if SKIPPED_FILES.match(name) or path.is_symlink():
            continue
        svg = path.read_text(encoding="utf-8", errors="replace")
        digest = hashlib.sha256(re.sub(r"<metadata.*?</metadata>", "", svg, flags=re.DOTALL).encode()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        licence = re.search(r'<cc:license rdf:resource="([^"]*)"', svg)
        if licence is None or "ublic" not in licence.group(1):  # 67 files name nothing, or the GPL
            continue
        try:
            image = render_svg(svg)
        except ValueError:  # resvg found no SVG, or no size
            continue
        folders = name.split("/")
        label = {"category": folders[0], "subcategory": "/".join(folders[:2]) if len(folders) > 2 else folders[0]}  # noqa: PLR2004
        key = re.sub(r"[^a-z0-9]+", "-", name[:-4].lower())
        yield Pair(key, image, caption(svg, path.stem), OPENCLIPART_LICENCE, label)


def caption(svg: str, stem: str) -> str:
    """Return title, description and up to six keywords from a drawing's metadata, as noisy as web alt text.

    The words of the file name replace a missing or meaningless title.
    """
    title = TITLE_NOISE.sub("", _find_element(svg, "title")).strip(" ,")
    if not title or NO_TITLE.match(title):
        title = _words_of_file_name(stem, svg)
    title = re.sub(r"(?<=[a-z])\d+\b|\b\d+\b", "", re.sub(r"_+", " ", title))
    description = _find_element(svg, "description")
    if len(description) >= 100 or NO_DESCRIPTION.search(description) or description.lower() == title.lower():  # noqa: PLR2004
        description = ""
    parts = [re.sub(r"\s+", " ", title).strip(" -,."), re.sub(r"\s+", " ", description), *_find_keywords(svg)[:6]]
    return ", ".join(part for part in parts if part)


def _find_element(svg: str, name: str) -> str:
    """Return the text of a Dublin Core element, or an empty string."""
    found = re.search(rf"<dc:{name}[^>]*>(.*?)</dc:{name}>", svg, re.DOTALL)
    return html.unescape(re.sub(r"<.*?>", "", found.group(1))).strip() if found else ""


def _words_of_file_name(stem: str, svg: str) -> str:
    """Return a file name's words without numbers, single letters and the author's name, which is a frequent suffix."""
    words = re.sub(r"[_\-.]+", " ", stem)
    author = re.search(r"<dc:creator>.*?<dc:title>(.*?)</dc:title>", svg, re.DOTALL)
    for name in re.findall(r"\w+", author.group(1).lower() if author else ""):
        if len(name) > 2:  # noqa: PLR2004
            words = re.sub(rf"\b{re.escape(name[:7])}\w*", "", words.lower())
    return re.sub(r"\b\w?\d+\w?\b|\b\w\b", "", words)


def _find_keywords(svg: str) -> list[str]:
    words = (word.strip().lower() for word in re.findall(r"<rdf:li[^>]*>(.*?)</rdf:li>", svg, re.DOTALL))
    return [word for word in dict.fromkeys(words) if 0 < len(word) < MAX_KEYWORD and not NO_KEYWORD.fullmatch(word)]
