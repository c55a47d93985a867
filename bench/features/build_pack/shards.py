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
MANIFEST_FORMAT = 1  # of the manifest; raise it when a field changes its meaning
DATA_PATTERNS = ("*.tar.gz", "*.tsv.gz", "*.tsv.xz", "*.webp", "punkt-*.json")


@dataclass(frozen=True, slots=True)
class Pair:
    """A source's image and its text."""

    key: str  # made unique within the source
    image: Image.Image  # a grey one (mode L) is stored unchanged and lossless; others are fitted
    caption: str
    licence: str
    label: dict[str, str] = field(default_factory=dict)  # class by name of the classification, and the author


def write_pack_shard(path: Path, source: str, pairs: Iterable[Pair]) -> int:
    """Write SOURCE-KEY.webp (or .png) and SOURCE-KEY.json of each pair, in order; return the number of blank images.

    Blank images are dropped. A repeated key gets the suffix "-b", because webdataset groups by key. No time and no user
    is written.
    """
    blank, keys = 0, set[str]()
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for pair in pairs:
            key = pair.key
            while key in keys:
                key += "-b"
            keys.add(key)
            if (encoded := _fit_and_encode(pair.image)) is None:
                blank += 1
                continue
            suffix, content = encoded
            _add_member(tar, f"{source}-{key}.{suffix}", content)
            text: dict[str, Any] = {"caption": pair.caption, "source": source, "licence": pair.licence}
            text |= {"label": pair.label} if pair.label else {}
            encoded_text = json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()
            _add_member(tar, f"{source}-{key}.json", encoded_text)
    return blank


def count_pairs(path: Path) -> int:
    """Return the number of a shard's pairs."""
    with tarfile.open(path, "r:gz") as tar:
        return sum(member.name.endswith(".json") for member in tar)


def render_svg(svg: str) -> Image.Image:
    """Render an SVG document with resvg; ValueError if it is invalid or has no size.

    At 96 dots per inch, without which documents measured in points are refused. The machine's fonts are not used, so
    that every machine renders the same image; text is therefore missing.
    """
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=_add_namespace(svg), width=RENDER_SIDE, dpi=96, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


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
    if min(image.size) < 2:  # noqa: PLR2004
        return None
    scale = round(SIDE * (1 - 2 * MARGIN)) / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    image = image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 0))
    square.paste(image, ((SIDE - width) // 2, (SIDE - height) // 2))
    return square


def write_pack_manifest(folder: Path) -> None:
    """Write manifest.json: SHA-256, size in bytes, and number of pairs or rows of each data file."""
    content = {"format": MANIFEST_FORMAT, "files": {name: _describe_file(folder / name) for name in data_files(folder)}}
    text = json.dumps(content, indent=1, sort_keys=True)
    (folder / "manifest.json").write_text(f"{text}\n", encoding="utf-8")


def data_files(folder: Path) -> list[str]:
    """Return the relative paths of the pack's data files."""
    return sorted(path.relative_to(folder).as_posix() for pattern in DATA_PATTERNS for path in folder.rglob(pattern))


def _describe_file(path: Path) -> dict[str, str | int]:
    content = path.read_bytes()
    entry: dict[str, str | int] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if path.name.endswith(".tar.gz"):
        entry["pairs"] = count_pairs(path)
    elif path.suffix in (".gz", ".xz"):
        decompress = gzip.decompress if path.suffix == ".gz" else lzma.decompress
        entry["rows"] = len(decompress(content).splitlines())
    return entry


def _fit_and_encode(image: Image.Image) -> tuple[str, bytes] | None:
    """Return an image's suffix and bytes: lossless PNG if grey, else lossy WebP (about 1,150 bytes); None if blank."""
    file = io.BytesIO()
    if image.mode == "L":
        image.save(file, "PNG", optimize=True)
        return "png", file.getvalue()
    if (fitted := crop_and_fit_square(image)) is None:
        return None
    fitted.save(file, "WEBP", quality=70, alpha_quality=60, method=4)
    return "webp", file.getvalue()


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _add_namespace(svg: str) -> str:
    """Add SVG's namespace to a root element without one, as in some Open Clip Art files."""
    root = re.search(r"<(?:svg:)?svg\b[^>]*>", svg, re.DOTALL)
    if root is None or 'xmlns="' in root.group() or root.group().startswith("<svg:"):
        return svg
    named = root.group().replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return svg[: root.start()] + named + svg[root.end() :]
