"""The summary of data: counts of all samples, and random samples of the images and captions."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.console.progress import show_progress
from bench.data.captions.choice import parse_caption_choice
from bench.data.manifest import CACHE
from bench.data.sample_stream import MAX_UNDECODABLE_FRACTION
from bench.data.samples import get_source, max_unusable
from bench.data.subset import write_keys
from bench.features.data_summary.captions import FieldCaptions, inspect_captions
from bench.features.data_summary.images import SampledImage, inspect_image
from bench.interfaces.data_source import SampleRequest, Samples, format_counts

MAX_CAPTION_ROWS = 50_000  # samples whose captions are read
NUM_SHOWN = 64  # images on the page
KEYS_REMEDY = (
    "`--keys FILE` writes the keys of the usable samples, and `train --set subset=FILE` reads them."
)


@dataclass(frozen=True, slots=True)
class ShownSample:
    """A sample on the page."""

    key: str
    image: SampledImage
    captions: Sequence[str]  # of all fields


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSummary:
    """Contents of data: all samples are counted; images and captions are of random samples."""

    data: str
    source: str  # name of the data source
    num_files: int
    file_bytes: int
    num_samples: int  # that can be used
    skipped: Mapping[str, int]  # samples without an image or a caption, by the reason
    notes: Sequence[str]  # of the source
    images: Sequence[SampledImage]
    captions: Sequence[FieldCaptions]
    shown: Sequence[ShownSample]

    @property
    def total(self) -> int:
        """Number of samples, those that cannot be used included."""
        return self.num_samples + sum(self.skipped.values())

    @property
    def usable_images(self) -> list[SampledImage]:
        """The images of the sample that were decoded."""
        return [image for image in self.images if not image.flaw]

    @property
    def image_bytes(self) -> int:
        """Number of bytes of all images, expected from the sample."""
        return round(
            self.num_samples * sum(image.num_bytes for image in self.images) / len(self.images)
        )

    @property
    def flaws(self) -> Counter[str]:
        """Number of images of the sample that cannot be decoded, by reason."""
        return Counter(image.flaw for image in self.images if image.flaw)

    @property
    def refusals(self) -> list[str]:
        """Sentences on why a training refuses the data, or would end."""
        num_skipped = sum(self.skipped.values())
        num_flawed = self.flaws.total()
        sentences = []
        if num_skipped > max_unusable(self.total):
            reason = f"{num_skipped:,} of {self.total:,} samples cannot be used"
            sentences.append(f"A training refuses these data: {reason}. {KEYS_REMEDY}")
        if num_flawed > MAX_UNDECODABLE_FRACTION * len(self.images):
            reason = f"{num_flawed:,} of {len(self.images):,} images cannot be decoded"
            sentences.append(f"A training would end: {reason}. {KEYS_REMEDY}")
        return sentences


def summarize_data(
    data: str,
    caption: str | None,
    results: Path,
    num_images: int,
    seed: int,
    key_file: Path | None = None,
) -> DataSummary:
    """Read data; their index lies in `results`. Raises ValueError or OSError.

    The keys of the usable samples are written into the key file, without sampled images that have a flaw.
    """
    source = get_source(data)
    choice = parse_caption_choice(caption)
    samples = source.open(data, SampleRequest(cache=results / CACHE, captions=choice))
    if not len(samples):
        raise ValueError(f"{data}: no sample can be used ({format_counts(samples.skipped)})")
    draw = random.Random(seed)  # noqa: S311
    rows = draw.sample(range(len(samples)), min(num_images, len(samples)))
    caption_rows = sorted(draw.sample(range(len(samples)), min(MAX_CAPTION_ROWS, len(samples))))
    images = _inspect_images(samples, rows)
    if key_file is not None:
        write_keys(
            key_file, samples.keys, [samples.key(image.row) for image in images if image.flaw]
        )
    texts = [
        samples.texts(row)
        for row in show_progress(caption_rows, len(caption_rows), "captions", "samples")
    ]
    captions = []
    for number, field_name in enumerate(choice.names):
        name = field_name or samples.caption_field
        captions.append(inspect_captions(name, [fields[number] for fields in texts]))
    files = source.files(data)
    return DataSummary(
        data=data,
        source=source.name,
        num_files=len(files),
        file_bytes=sum(path.stat().st_size for path in files),
        num_samples=len(samples),
        skipped=samples.skipped,
        notes=samples.notes(),
        images=images,
        captions=captions,
        shown=[_show_sample(samples, image) for image in images[:NUM_SHOWN]],
    )


def _inspect_images(samples: Samples, rows: Sequence[int]) -> list[SampledImage]:
    """Decode the images of rows in the order of the files; return them in the order of `rows`."""
    shown = set(rows[:NUM_SHOWN])
    image_of_row = {}
    for row in show_progress(sorted(rows), len(rows), "decoding images", "images"):
        image_of_row[row] = inspect_image(samples, row, is_shown=row in shown)
    return [image_of_row[row] for row in rows]


def _show_sample(samples: Samples, image: SampledImage) -> ShownSample:
    captions = [text for texts in samples.texts(image.row) for text in texts]
    return ShownSample(samples.key(image.row), image, captions)
