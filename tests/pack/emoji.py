"""Emoji of seven vendors, and icons of Iconify's sets. Their names and keywords come from emojibase-data (CLDR)."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.pack.shards import Pair, render_svg

LICENCES = {
    "noto": "Apache-2.0",
    "fluent-emoji": "MIT",
    "fluent-emoji-flat": "MIT",
    "fluent-3d": "MIT",
    "fxemoji": "Apache-2.0",
    "emojione": "CC-BY-4.0",
    "twemoji": "CC-BY-4.0",
}
# Emojibase's groups: single letters, components (skin tones, hair), flags.
EXCLUDED_GROUPS = (
    None,
    2,
    9,
)
# Numerical-sorting-12: a name that does not describe the icon.
NUMBERED_NAME = re.compile(r"\d{2,}$")

Drawing = Callable[[], Image.Image]


class IconSet:
    """Drawings of the icons.json (Iconify's format) of an unpacked @iconify-json package."""

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "icons.json").read_bytes())
        self.icons: dict[str, dict[str, Any]] = content["icons"]
        self.width = content.get("width", 16)
        self.height = content.get("height", 16)
        # An alias of an alias is left out; mirrored aliases (hFlip) are drawn unmirrored, as in the shipped pack.
        self.drawing_of_name = {name: name for name in self.icons}
        for name, alias in content.get("aliases", {}).items():
            if alias["parent"] in self.icons:
                self.drawing_of_name[name] = alias["parent"]

    def draw(self, name: str) -> Image.Image:
        """Render an icon by the name of its drawing."""
        icon = self.icons[name]
        width = icon.get("width", self.width)
        height = icon.get("height", self.height)
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


def emoji_pairs(npm: Path, vendor: str) -> Iterator[Pair]:
    """Yield a vendor's emoji without skin tones, in the order of their code points."""
    emoji = load_emoji(npm / "emojibase-data/en")
    code_of_code = {normalise_code(code): code for code in emoji}
    drawings: dict[str | None, Drawing] = {}
    if vendor == "fluent-3d":  # renders of 256 pixels, one file per emoji
        for path in sorted((npm / "@lobehub/fluent-emoji-3d/assets").glob("*.webp")):
            drawings[code_of_code.get(normalise_code(path.stem))] = partial(read_image, path)
    else:
        icons = IconSet(npm / "@iconify-json" / vendor)
        # fluent-emoji lists no code points; its icons have the names of the flat set
        listing = (
            npm
            / "@iconify-json"
            / ("fluent-emoji-flat" if vendor == "fluent-emoji" else vendor)
            / "chars.json"
        )
        listed = json.loads(listing.read_bytes()) if listing.is_file() else {}
        for code, name in listed.items():
            if name in icons.drawing_of_name:
                drawings[code_of_code.get(normalise_code(code))] = partial(
                    icons.draw, icons.drawing_of_name[name]
                )
        code_of_name = {normalise_name(item["label"]): code for code, item in emoji.items()}
        for name, drawing_name in icons.drawing_of_name.items():
            drawings.setdefault(
                code_of_name.get(normalise_name(name)), partial(icons.draw, drawing_name)
            )
    drawings.pop(None, None)  # flags and others that are left out
    for code, draw in sorted(drawings.items()):
        yield Pair(
            code.lower(),
            draw(),
            caption(emoji[code], vendor),
            LICENCES[vendor],
            emoji[code]["classes"],
        )


def load_emoji(folder: Path) -> dict[str, dict[str, Any]]:
    """Return emojibase's entries except flags, by hexadecimal code points ("1F441-FE0F").

    The key "classes" is added: the emoji's name and groups, from which the transfer tasks take their classes.
    """
    messages = json.loads((folder / "messages.json").read_bytes())
    groups = {group["order"]: group["key"] for group in messages["groups"]}
    subgroups = {group["order"]: group["key"] for group in messages["subgroups"]}
    emoji: dict[str, dict[str, Any]] = {}
    for item in json.loads((folder / "data.json").read_bytes()):
        if item.get("group") not in EXCLUDED_GROUPS:
            classes = {
                "concept": item["label"],
                "group": groups[item["group"]],
                "subgroup": subgroups[item["subgroup"]],
            }
            emoji[item["hexcode"]] = item | {"classes": classes}
    return emoji


def caption(emoji: dict[str, Any], vendor: str) -> str:
    """Return the CLDR short name and one to four keywords that it does not contain, drawn per vendor."""
    generator = random.Random(hashlib.sha256(f"{emoji['hexcode']}/{vendor}".encode()).digest())
    words = set(re.findall(r"\w+", emoji["label"].lower()))
    keywords = [
        keyword
        for keyword in emoji.get("tags", [])
        if keyword.lower() not in words and not re.fullmatch(r"[\W\d:]+", keyword)
    ]
    generator.shuffle(keywords)
    return ", ".join([emoji["label"], *keywords[: generator.randint(1, 4)]])


def read_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGBA")


def normalise_code(code: str) -> str:
    """Return code points in upper case without the variation selector."""
    return code.upper().replace("-FE0F", "")


def normalise_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
