"""How much jpeg_decoding=reduced changes the pixels that a model sees: `python -m tests.data.reduced_pixels`.

Eight photographs of scikit-image, scikit-learn and matplotlib are scaled to a shorter side of 512 and of 1,024 px and
saved as JPEG. Each is cropped to 224 px by the same draws after full and after reduced decoding, and without JPEG.
"""

import math
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
import skimage
import sklearn.datasets
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from bench.console.tables import print_tables
from bench.data.decoding import JPEG_REDUCTIONS, decode_for_crop, decode_image, reduce_box
from bench.data.transforms import crop_and_resize, crop_box, draw_crop_params, resize_crop
from bench.tables.tables import Table
from tests.data.shards import encode_image

SIDE, DRAWS, QUALITY, WHITE = 224, 50, 90, 255.0
STORED, SCALES = (512, 1024), ((0.9, 1.0), (0.5, 1.0), (0.08, 1.0))
SKIMAGE, SKLEARN = Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images"
PHOTOGRAPHS = (
    *(SKIMAGE / name for name in ("retina.jpg", "hubble_deep_field.jpg", "astronaut.png", "rocket.jpg", "coffee.png")),
    *(SKLEARN / name for name in ("china.jpg", "flower.jpg")),
    Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg",
)


def main() -> None:
    """Print the differences by stored size and crop."""
    rows = []
    for stored in STORED:
        photographs = [scaled(path, stored) for path in PHOTOGRAPHS]
        for scale in SCALES:
            differences = [row for photograph in photographs for row in compare(photograph, scale)]
            reductions, errors, squares, own = zip(*differences, strict=True)
            rows.append(
                {
                    "shorter side": stored,
                    "crop_scale": f"{scale[0]:g} to {scale[1]:g}",
                    **{f"1/{by}": reductions.count(by) / len(reductions) for by in (1, 2, 4)},
                    "mean absolute difference": fmean(errors),
                    "PSNR, dB": 10 * math.log10(WHITE**2 / fmean(squares)),
                    "of JPEG itself": fmean(own),
                }
            )
    print_tables([Table.of_figures("Reduced against full decoding", rows)])


def scaled(path: Path, shorter: int) -> Image.Image:
    with Image.open(path) as image:
        by = shorter / min(image.size)
        return image.convert("RGB").resize([round(by * side) for side in image.size], Image.Resampling.LANCZOS)


def compare(photograph: Image.Image, scale: tuple[float, float]) -> list[tuple[int, float, float, float]]:
    """Return for each crop its reduction, the mean absolute and squared difference, and that of JPEG itself."""
    jpeg, lossless = encode_image(photograph, quality=QUALITY), F.pil_to_tensor(photograph)
    full, found = decode_image(jpeg), []
    for draws in draw_crop_params(DRAWS, torch.Generator().manual_seed(0)):

        def box_in(width: int, height: int, draws: torch.Tensor = draws) -> tuple[int, int, int, int]:
            return crop_box(draws.tolist(), width, height, scale)

        box = box_in(*photograph.size)
        reduction = next((by for by in JPEG_REDUCTIONS if min(reduce_box(box, by)[2:]) >= SIDE), 1)
        image, reduced_box = decode_for_crop(jpeg, box_in, SIDE)
        reduced = resize_crop(image, reduced_box, draws.tolist(), SIDE, flip=False).double()
        expected, original = (
            crop_and_resize(pixels, draws, scale, SIDE, flip=False).double() for pixels in (full, lossless)
        )
        difference = reduced - expected
        own = float((expected - original).abs().mean())
        found.append((reduction, float(difference.abs().mean()), float(difference.square().mean()), own))
    return found


if __name__ == "__main__":
    main()
