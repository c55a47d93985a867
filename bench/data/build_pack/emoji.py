"""Emoji of seven vendors, with names and keywords from Unicode's CLDR by way of emojibase-data."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bench.data.build_pack.icons import IconSet
from bench.data.build_pack.shards import Pair

LICENCES = {
    "noto": "Apache-2.0",
    "fluent-emoji": "MIT",
    "fluent-emoji-flat": "MIT",
    "fluent-3d": "MIT",
    "fxemoji": "Apache-2.0",
    "emojione": "CC-BY-4.0",
    "twemoji": "CC-BY-4.0",
}
TEXTS = "emojibase-data/en"  # as the folders below, within node_modules
FLUENT_3D = "@lobehub/fluent-emoji-3d/assets"
LEFT_OUT = (None, 2, 9)  # emojibase's groups: single letters, components (skin tones, hair), flags


def vendor_files(npm: Path, vendor: str) -> tuple[Path, ...]:
    """Return what must be there to read a vendor's emoji."""
    pictures = npm / FLUENT_3D if vendor == "fluent-3d" else npm / "@iconify-json" / vendor / "icons.json"
    names = (npm / "@iconify-json/fluent-emoji-flat/chars.json",) if vendor == "fluent-emoji" else ()
    return (npm / TEXTS / "data.json", npm / TEXTS / "messages.json", pictures, *names)


def emoji_pairs(npm: Path, vendor: str) -> Iterator[Pair]:
    """Yield a vendor's emoji without skin tones, in the order of their code points."""
    texts = EmojiTexts(npm)
    pictures = _renders(npm, texts) if vendor == "fluent-3d" else _icons(npm, vendor, texts)
    for code, draw in sorted(pictures.items()):
        yield Pair(code.lower(), draw(), texts.caption(code, vendor), LICENCES[vendor], texts.label(code))


class EmojiTexts:
    """Names, keywords and groups of the emoji but flags, by hexadecimal code points ("1F441-FE0F")."""

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
        """Return the emoji of these code points; the variation selector and the case do not matter."""
        return self._by_code.get(_plain(code))

    def code_of_name(self, name: str) -> str | None:
        """Return the emoji of this name; only its letters and digits matter."""
        return self._by_name.get(_letters(name))

    def caption(self, code: str, vendor: str) -> str:
        """Return the CLDR short name and one to four keywords that it does not hold, drawn for each vendor."""
        emoji = self.emoji[code]
        dice = random.Random(hashlib.sha256(f"{code}/{vendor}".encode()).digest())  # noqa: S311 - not for secrets
        named = set(re.findall(r"\w+", emoji["label"].lower()))
        keywords = [
            word for word in emoji.get("tags", []) if word.lower() not in named and not re.fullmatch(r"[\W\d:]+", word)
        ]
        dice.shuffle(keywords)
        return ", ".join([emoji["label"], *keywords[: dice.randint(1, 4)]])

    def label(self, code: str) -> dict[str, str]:
        """Return the emoji's name and groups, which the transfer tasks take their classes from."""
        emoji = self.emoji[code]
        group, subgroup = self.groups[emoji["group"]], self.subgroups[emoji["subgroup"]]
        return {"concept": emoji["label"], "group": group, "subgroup": subgroup}


def _renders(npm: Path, texts: EmojiTexts) -> dict[str, Callable[[], Image.Image]]:
    """Fluent's 3D renders, 256 pixels, one file an emoji."""
    found: dict[str, Callable[[], Image.Image]] = {}
    for path in sorted((npm / FLUENT_3D).glob("*.webp")):
        if code := texts.code(path.stem):
            found[code] = partial(_open, path)
    return found


def _icons(npm: Path, vendor: str, texts: EmojiTexts) -> dict[str, Callable[[], Image.Image]]:
    """Find an icon set's emoji by the code points it lists, the others by the emoji's name."""
    folder = npm / "@iconify-json"
    icons = IconSet.read(folder / vendor)
    names = icons.names()
    # fluent-emoji lists no code points; its icons are named as in the flat set
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
    with Image.open(path) as picture:
        return picture.convert("RGBA")


def _plain(code: str) -> str:
    return code.upper().replace("-FE0F", "")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
