"""Renders of Sweet Home 3D's additional furniture (Debian's sweethome3d-furniture), 128 pixels, transparent."""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from bench.data.build_pack.shards import Pair

# Catalogues in the pack's order. KatorLegaz and Reallusion state CC-BY-3.0 United States, whose terms are equal.
LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0",
    "Reallusion": "CC-BY-3.0",
    "Scopia": "CC-BY-3.0",
}
AUTHORS = ("Blend Swap", "Scopia", "KatorLegaz", "Katorlegaz", "Reallusion")  # tags that name no content


def catalogue_files(folder: Path) -> tuple[Path, ...]:
    """Return the required catalogue files."""
    return tuple(folder / f"{catalogue}.sh3f" for catalogue in LICENCES)


def furniture_pairs(folder: Path) -> Iterator[Pair]:
    """Yield each model's render with its name and up to three tags; the label includes the model's author."""
    for catalogue, licence in LICENCES.items():
        with zipfile.ZipFile(folder / f"{catalogue}.sh3f") as archive:
            properties = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
            for number, model in sorted(_models(properties).items()):
                image = Image.open(io.BytesIO(archive.read(model["icon"].lstrip("/")))).convert("RGBA")
                tags = [tag.strip() for tag in model.get("tags", "").split(",")]
                words = [tag.lower() for tag in tags if tag and tag not in AUTHORS][:3]
                label = {"category": model["category"], "author": model.get("creator", catalogue)}
                caption = ", ".join([model["name"].lower(), *words])
                yield Pair(f"{catalogue.lower()}-{number}", image, caption, licence, label)


def _models(properties: str) -> dict[int, dict[str, str]]:
    """Parse the lines `field#number=value` of a catalogue into fields by number."""
    models: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for line in properties.splitlines():
        if found := re.match(r"\s*(\w+)#(\d+)\s*=\s*(.*)", line):
            name, number, value = found.groups()
            models[int(number)][name] = value.strip()
    return models
