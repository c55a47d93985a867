"""Pictures: drawn from SVG, fitted into a square, encoded."""

import io
import re

from PIL import Image

SIDE = 64  # pixels, of a picture in the pack
DRAWN = 2 * SIDE  # pixels, the width that SVG is drawn at before it is fitted
MARGIN = 0.03  # of the side, left free all around
FAINT = 8  # of 255; alpha up to this is not part of the drawing


def draw(svg: str) -> Image.Image:
    """Draw an SVG document with resvg; raises ValueError where it is none, or has no size.

    At 96 dots an inch, without which documents measured in points are refused. Fonts of the machine are not used, so
    that every machine draws the same; written text is therefore missing.
    """
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=_with_namespace(svg), width=DRAWN, dpi=96, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def fit(picture: Image.Image, side: int = SIDE) -> Image.Image | None:
    """Crop to what is drawn and centre it, as large as the margin allows, in a transparent square.

    None where nothing is drawn, or only a line of one pixel. Resampled with colour premultiplied by alpha, so that
    the colour of transparent pixels leaves no fringe.
    """
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > FAINT else 0).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    if min(picture.size) < 2:  # noqa: PLR2004
        return None
    scale = max(1, round(side * (1 - 2 * MARGIN))) / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    picture = picture.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def encode_webp(picture: Image.Image) -> bytes:
    """Encode with loss, transparency included: about 1,150 bytes for 64 x 64 pixels."""
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=70, alpha_quality=60, method=4)
    return file.getvalue()


def encode_png(picture: Image.Image) -> bytes:
    """Encode without loss."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _with_namespace(svg: str) -> str:
    """Give the root element SVG's namespace where it has none, as some Open Clip Art files do."""
    root = re.search(r"<(?:svg:)?svg\b[^>]*>", svg, re.DOTALL)
    if root is None or 'xmlns="' in root.group() or root.group().startswith("<svg:"):
        return svg
    named = root.group().replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return svg[: root.start()] + named + svg[root.end() :]
