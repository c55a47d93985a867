"""Icon sets in Iconify's JSON; flat-color-icons (Icons8, MIT) has no text but its icons' names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from PIL import Image

from bench.data.build_pack.pictures import draw
from bench.data.build_pack.shards import Pair

VARIANT = re.compile(r"\d{2,}$")  # numerical-sorting-12: a name that tells nothing of the picture


@dataclass(frozen=True, slots=True)
class IconSet:
    """An icons.json: drawings by name, and other names for them."""

    icons: dict[str, dict[str, Any]]
    aliases: dict[str, str]  # its mirrored ones (hFlip) are given unmirrored, as the shipped pack has them
    size: tuple[int, int]  # of an icon that does not say its own

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the icons.json of an unpacked @iconify-json package."""
        content = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        aliases = {name: alias["parent"] for name, alias in content.get("aliases", {}).items()}
        return cls(content["icons"], aliases, (content.get("width", 16), content.get("height", 16)))

    def names(self) -> dict[str, str]:
        """Return the drawing's own name for every name; an alias of an alias is left out."""
        aliases = {name: parent for name, parent in self.aliases.items() if parent in self.icons}
        return {name: name for name in self.icons} | aliases

    def draw(self, name: str) -> Image.Image:
        """Draw an icon by its own name."""
        icon = self.icons[name]
        width, height = icon.get("width", self.size[0]), icon.get("height", self.size[1])
        return draw(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}" '
            f'width="{width}" height="{height}">{icon["body"]}</svg>'
        )


def icon_pairs(folder: Path, licence: str) -> Iterator[Pair]:
    """Yield a set's icons by name, the caption being the name's words."""
    icons = IconSet.read(folder)
    for name, icon in sorted(icons.icons.items()):
        if not icon.get("hidden") and not VARIANT.search(name):
            yield Pair(name, icons.draw(name), name.replace("-", " "), licence)
