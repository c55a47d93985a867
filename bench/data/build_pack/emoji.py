"""Emoji of seven vendors with names and keywords from Unicode's CLDR (emojibase-data), and icons of Iconify's sets."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from PIL import Image

from bench.data.build_pack.shards import Pair, render_svg

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
LEFT_OUT = (None, 2, 9)  # emojibase's groups: single letters, components (skin tones, hair), flags
VARIANT = re.compile(r"\d{2,}$")  # numerical-sorting-12: a name that does not describe the icon


@dataclass(frozen=True, slots=True)
class IconSet:
    """Drawings of an icons.json in Iconify's format, by name, and aliases of the names."""

    icons: dict[str, dict[str, Any]]
    aliases: dict[str, str]  # mirrored ones (hFlip) are drawn unmirrored, as in the shipped pack
    size: tuple[int, int]  # default width and height of an icon

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the icons.json of an unpacked @iconify-json package."""
        content = _read(folder / "icons.json")
        aliases = {name: alias["parent"] for name, alias in content.get("aliases", {}).items()}
        return cls(content["icons"], aliases, (content.get("width", 16), content.get("height", 16)))

    def names(self) -> dict[str, str]:
        """Return the drawing's own name by every name; an alias of an alias is left out."""
        aliases = {name: parent for name, parent in self.aliases.items() if parent in self.icons}
        return {name: name for name in self.icons} | aliases

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
    icons = IconSet.read(folder)
    for name, icon in sorted(icons.icons.items()):
        if not icon.get("hidden") and not VARIANT.search(name):
            yield Pair(name, icons.draw(name), name.replace("-", " "), licence)


def vendor_files(npm: Path, vendor: str) -> tuple[Path, ...]:
    """Return the files and folders that a vendor's emoji are read from."""
    images = npm / FLUENT_3D if vendor == "fluent-3d" else npm / "@iconify-json" / vendor / "icons.json"
    names = (npm / "@iconify-json/fluent-emoji-flat/chars.json",) if vendor == "fluent-emoji" else ()
    return (npm / TEXTS / "data.json", npm / TEXTS / "messages.json", images, *names)


def emoji_pairs(npm: Path, vendor: str) -> Iterator[Pair]:
    """Yield a vendor's emoji without skin tones, in the order of their code points."""
    texts = EmojiTexts(npm)
    images = _renders(npm, texts) if vendor == "fluent-3d" else _icons(npm, vendor, texts)
    for code, draw_emoji in sorted(images.items()):
        yield Pair(code.lower(), draw_emoji(), texts.caption(code, vendor), LICENCES[vendor], texts.label(code))


class EmojiTexts:
    """Names, keywords and groups of all emoji except flags, by hexadecimal code points ("1F441-FE0F")."""

    def __init__(self, npm: Path) -> None:
        messages = _read(npm / TEXTS / "messages.json")
        self.groups = {group["order"]: group["key"] for group in messages["groups"]}
        self.subgroups = {group["order"]: group["key"] for group in messages["subgroups"]}
        emoji = _read(npm / TEXTS / "data.json")
        self.emoji: dict[str, dict[str, Any]] = {
            one["hexcode"]: one for one in emoji if one.get("group") not in LEFT_OUT
        }
        self._by_code = {_plain(code): code for code in self.emoji}
        self._by_name = {_letters(one["label"]): code for code, one in self.emoji.items()}

    def code(self, code: str) -> str | None:
        """Return the emoji of these code points; the variation selector and the case are ignored."""
        return self._by_code.get(_plain(code))

    def code_of_name(self, name: str) -> str | None:
        """Return the emoji of this name; all but its letters and digits is ignored."""
        return self._by_name.get(_letters(name))

    def caption(self, code: str, vendor: str) -> str:
        """Return the CLDR short name and one to four keywords that it does not contain, drawn per vendor."""
        emoji = self.emoji[code]
        dice = random.Random(hashlib.sha256(f"{code}/{vendor}".encode()).digest())  # noqa: S311 - not for secrets
        named = set(re.findall(r"\w+", emoji["label"].lower()))
        keywords = [
            word for word in emoji.get("tags", []) if word.lower() not in named and not re.fullmatch(r"[\W\d:]+", word)
        ]
        dice.shuffle(keywords)
        return ", ".join([emoji["label"], *keywords[: dice.randint(1, 4)]])

    def label(self, code: str) -> dict[str, str]:
        """Return the emoji's name and groups, from which the transfer tasks take their classes."""
        emoji = self.emoji[code]
        group, subgroup = self.groups[emoji["group"]], self.subgroups[emoji["subgroup"]]
        return {"concept": emoji["label"], "group": group, "subgroup": subgroup}


def _renders(npm: Path, texts: EmojiTexts) -> dict[str, Callable[[], Image.Image]]:
    """Return Fluent's 3D renders, 256 pixels, one file per emoji."""
    paths = sorted((npm / FLUENT_3D).glob("*.webp"))
    return {code: partial(_open, path) for path in paths if (code := texts.code(path.stem))}


def _icons(npm: Path, vendor: str, texts: EmojiTexts) -> dict[str, Callable[[], Image.Image]]:
    """Find an icon set's emoji by the code points that it lists, the others by the emoji's name."""
    folder = npm / "@iconify-json"
    icons = IconSet.read(folder / vendor)
    names = icons.names()
    # fluent-emoji lists no code points; its icons have the names of the flat set
    listing = folder / ("fluent-emoji-flat" if vendor == "fluent-emoji" else vendor) / "chars.json"
    listed = _read(listing) if listing.is_file() else {}
    found: dict[str, str] = {}
    for code_points, name in listed.items():
        if (code := texts.code(code_points)) and name in names:
            found[code] = names[name]
    for name, own_name in names.items():
        if (code := texts.code_of_name(name)) and code not in found:
            found[code] = own_name
    return {code: partial(icons.draw, name) for code, name in found.items()}


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGBA")


def _plain(code: str) -> str:
    return code.upper().replace("-FE0F", "")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
