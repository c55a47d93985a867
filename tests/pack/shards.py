"""Shards of the pack: images fitted into squares, with their texts, in webdataset's layout; and the pack's manifest.

Equal pairs give equal bytes.
"""

import gzip
import hashlib
import io
import json
import lzma
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

SIDE = 64  # pixels, of an image in the pack
RENDER_SIDE = 2 * SIDE  # pixels, the width of a rendered SVG before it is fitted
MARGIN = 0.03  # free fraction of the side at each edge
MIN_ALPHA = 8  # of 255; pixels of at most this alpha do not belong to the drawing
MIN_DRAWING = 2  # pixels, the least width and height of a drawing
MANIFEST_FORMAT = 1
DATA_PATTERNS = ("*.tar.gz", "*.tsv.gz", "*.tsv.xz", "*.webp", "punkt-*.json")


@dataclass(frozen=True)
class Pair:
    """A source's image and its text."""

    key: str  # made unique within the source
    image: Image.Image  # a grey one (mode L) is stored unchanged and lossless; others are fitted
    caption: str
    licence: str
    # Class by name of the classification, and the author.
    label: dict[str, str] = field(default_factory=dict)


def write_shard(folder: Path, source: str, pairs: Iterable[Pair]) -> None:
    """Write SOURCE.tar.gz with SOURCE-KEY.webp (or .png) and SOURCE-KEY.json of each pair, in order.

    Blank images are dropped. A repeated key gets the suffix "-b", because webdataset groups by key. No time and no user
    is written.
    """
    keys = set[str]()
    with (
        (folder / f"{source}.tar.gz").open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for pair in pairs:
            key = pair.key
            while key in keys:
                key += "-b"
            keys.add(key)
            suffix, image = encode(pair.image)
            if not image:
                continue
            add_member(tar, f"{source}-{key}.{suffix}", image)
            text: dict[str, Any] = {
                "caption": pair.caption,
                "source": source,
                "licence": pair.licence,
            }
            if pair.label:
                text["label"] = pair.label
            encoded_text = json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()
            add_member(tar, f"{source}-{key}.json", encoded_text)


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def encode(image: Image.Image) -> tuple[str, bytes]:
    """Return an image's suffix and bytes: lossless PNG if grey, else lossy WebP (about 1,150 bytes), none if blank."""
    file = io.BytesIO()
    if image.mode == "L":
        image.save(file, "PNG", optimize=True)
        return "png", file.getvalue()
    fitted = crop_and_fit_square(image)
    if fitted is not None:
        fitted.save(file, "WEBP", quality=70, alpha_quality=60, method=4)
    return "webp", file.getvalue()


def crop_and_fit_square(image: Image.Image) -> Image.Image | None:
    """Crop to the drawing and centre it, as large as the margin allows, in a transparent square.

    None if the image is blank or only a line of one pixel. Resampling premultiplies colour by alpha, so that the colour
    of transparent pixels leaves no fringe.
    """
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 if alpha > MIN_ALPHA else 0).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    if min(image.size) < MIN_DRAWING:
        return None
    scale = round(SIDE * (1 - 2 * MARGIN)) / max(image.size)
    width = max(1, round(image.width * scale))
    height = max(1, round(image.height * scale))
    image = image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 0))
    square.paste(image, ((SIDE - width) // 2, (SIDE - height) // 2))
    return square


def render_svg(svg: str) -> Image.Image:
    """Render an SVG document with resvg; ValueError if it is invalid or has no size.

    At 96 dots per inch, without which documents measured in points are refused. The machine's fonts are not used, so
    that every machine renders the same image; text is therefore missing.
    """
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_string=add_namespace(svg), width=RENDER_SIDE, dpi=96, skip_system_fonts=True
    )
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def add_namespace(svg: str) -> str:
    """Add SVG's namespace to a root element without one, as in some Open Clip Art files."""
    root = re.search(r"<(?:svg:)?svg\b[^>]*>", svg, re.DOTALL)
    if root is None or 'xmlns="' in root.group() or root.group().startswith("<svg:"):
        return svg
    named = root.group().replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return svg[: root.start()] + named + svg[root.end() :]


def write_manifest(folder: Path) -> None:
    """Write manifest.json: SHA-256, size in bytes, and number of pairs or rows of each data file."""
    files = {}
    for pattern in DATA_PATTERNS:
        for path in folder.rglob(pattern):
            files[path.relative_to(folder).as_posix()] = describe_file(path)
    text = json.dumps({"format": MANIFEST_FORMAT, "files": files}, indent=1, sort_keys=True)
    (folder / "manifest.json").write_text(f"{text}\n", encoding="utf-8")


def describe_file(path: Path) -> dict[str, str | int]:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    entry: dict[str, str | int] = {"bytes": len(content), "sha256": digest}
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as tar:
            entry["pairs"] = sum(name.endswith(".json") for name in tar.getnames())
    elif path.suffix in (".gz", ".xz"):
        text = gzip.decompress(content) if path.suffix == ".gz" else lzma.decompress(content)
        entry["rows"] = len(text.splitlines())
    return entry
