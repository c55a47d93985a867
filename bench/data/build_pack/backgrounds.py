"""Background photos for composed scenes, from the packages of scikit-image 0.26 and scikit-learn 1.9."""

import io
from importlib.resources import files
from pathlib import Path

from PIL import Image

SIDE = 256  # pixels
# Written as bg00.webp, bg01.webp and so on, in this order.
PHOTOS = (
    ("skimage.data", "grass.png"),
    ("skimage.data", "gravel.png"),
    ("skimage.data", "brick.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "rocket.jpg"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "hubble_deep_field.jpg"),
    ("skimage.data", "moon.png"),
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)


def write_backgrounds(out: Path) -> None:
    """Write each photo, scaled to a square without cropping, as WebP of quality 80."""
    for number, (package, name) in enumerate(PHOTOS):
        with Image.open(io.BytesIO((files(package) / name).read_bytes())) as photo:
            square = photo.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        square.save(out / f"bg{number:02d}.webp", "WEBP", quality=80)
