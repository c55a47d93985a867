"""The summary of data: counts of all samples, and random samples of the images and captions."""

import io
import random
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from bench.console.progress import iterate_with_progress_bar
from bench.data.caption_lengths import EDGE_TOKENS
from bench.data.captions.choice import TextsByField, parse_caption_choice
from bench.data.decoding import UnusableImageError, decode_image
from bench.data.manifest import CACHE
from bench.data.samples import get_source, open_source_samples
from bench.data.subset import write_key_file
from bench.experiment.fields import SampleSettings
from bench.interfaces.data_source import SampleFieldsRequest, Samples
from bench.interfaces.sections import EmbeddedPicture
from bench.labels.adjectives import format_adjective_warning, frequent_adjective_labels
from bench.labels.labeller import get_label_rule, label_and_tally, make_vocabulary
from bench.labels.subwords import encode_caption_without_start_and_end

MAX_CAPTION_ROWS = 50_000  # samples whose captions are read
MAX_CAPTION_CHARACTERS = 2**24  # of these captions
MAX_SHOWN_CHARACTERS = 240  # of a caption beneath an image
MAX_SHORTENED_CHARACTERS = 1000  # of a caption, from which those that are shown are taken
NUM_SHOWN = 64  # images on the page
THUMBNAIL_SIDE = 192  # pixels
NOUN_RULE = "corenet"  # the labelling rule that finds nouns of WordNet
FOUND_FIELD = "found by its name"  # without --caption-fields; the notes of the data say which it is


@dataclass(frozen=True, slots=True)
class InspectedImage:
    """An image as it was read: a usable one has a size in pixels, another has a flaw."""

    row: int
    num_bytes: int  # of the file, or of the pixels of an image in memory
    width: int = 0
    height: int = 0
    flaw: str = ""
    thumbnail: bytes = b""  # WebP, of images that are shown


@dataclass(frozen=True, slots=True)
class FieldCaptions:
    """The captions of one field; a text without a visible character is no caption."""

    field: str
    per_sample: npt.NDArray[np.int64]  # number of captions of each sample
    texts: Sequence[str]
    num_tokens: npt.NDArray[np.int64]  # of each caption, start and end token included
    num_nouns: npt.NDArray[np.int64]  # of each caption
    adjectives: Sequence[str]  # frequent labels whose words are mostly adjectives

    @property
    def num_repeated(self) -> int:
        """Number of captions that are equal to an earlier one."""
        return len(self.texts) - len(set(self.texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSummary:
    """Contents of data: counts of all samples, and the images and captions of random samples."""

    data: str
    source: str  # name of the data source
    num_files: int
    file_bytes: int
    num_samples: int  # that can be used
    skipped: Mapping[str, int]  # samples without an image or a caption, by the reason
    notes: Sequence[str]  # of the source
    images: Sequence[InspectedImage]
    captions: Sequence[FieldCaptions]
    # The first of the images, with their captions of all fields.
    pictures: Sequence[EmbeddedPicture]

    @property
    def total(self) -> int:
        """Number of samples, those that cannot be used included."""
        return self.num_samples + sum(self.skipped.values())

    @property
    def usable_images(self) -> list[InspectedImage]:
        """The images of the sample that were decoded."""
        return [image for image in self.images if not image.flaw]

    @property
    def flaw_counts(self) -> Counter[str]:
        """Number of images of the sample that cannot be decoded, by reason."""
        return Counter(image.flaw for image in self.images if image.flaw)

    @property
    def label_warnings(self) -> list[str]:
        """Sentences on frequent labels whose words are mostly adjectives."""
        warnings = [format_adjective_warning(captions.adjectives) for captions in self.captions]
        return [warning for warning in warnings if warning]


def summarize_data(
    inputs: SampleSettings,
    results: Path,
    num_images: int,
    seed: int,
    key_file: Path | None = None,
) -> DataSummary:
    """Open data, decode a sample of the images, and count tokens and nouns of a sample of the captions.

    The index of the data lies in `results`. The keys of the usable samples are written into the key file, without
    sampled images that have a flaw. Raises ValueError or OSError for data that cannot be read.
    """
    data = inputs.data
    choice = parse_caption_choice(inputs.caption_fields)
    request = SampleFieldsRequest(
        cache=results / CACHE, captions=choice, image_column=inputs.image_column
    )
    samples = open_source_samples(data, request)
    draw = random.Random(seed)  # noqa: S311
    all_rows = range(len(samples))
    rows = draw.sample(all_rows, min(num_images, len(samples)))
    caption_rows = draw.sample(all_rows, min(MAX_CAPTION_ROWS, len(samples)))
    images = _decode_sampled_images(samples, rows)
    if key_file is not None:
        flawed_keys = [samples.key(image.row) for image in images if image.flaw]
        write_key_file(key_file, samples.keys, flawed_keys)
    texts = _read_sampled_texts(samples, caption_rows)
    captions = []
    for number, field in enumerate(choice.field_names):
        texts_of_field = [fields[number] for fields in texts]
        captions.append(count_tokens_and_nouns(field or FOUND_FIELD, texts_of_field))
    source = get_source(data)
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
        pictures=[_make_picture(samples, image) for image in images[:NUM_SHOWN]],
    )


def _read_sampled_texts(samples: Samples, rows: Sequence[int]) -> list[TextsByField]:
    """Return the texts of random rows, of fewer rows where they have many characters."""
    texts_of_rows = list[TextsByField]()
    num_characters = 0
    for row in iterate_with_progress_bar(rows, len(rows), "captions", "samples"):
        texts_of_rows.append(samples.captions_by_field(row))
        num_characters += sum(map(len, chain.from_iterable(texts_of_rows[-1])))
        if num_characters > MAX_CAPTION_CHARACTERS:
            break
    return texts_of_rows


def count_tokens_and_nouns(field: str, texts_of_samples: Sequence[Sequence[str]]) -> FieldCaptions:
    """Count the tokens and WordNet nouns of each caption of a field, for samples with any number of captions."""
    per_sample = []
    texts = list[str]()
    for texts_of_sample in texts_of_samples:
        captions = [text for text in texts_of_sample if text.strip()]
        per_sample.append(len(captions))
        texts += captions
    tokens = [EDGE_TOKENS + len(encode_caption_without_start_and_end(text)) for text in texts]
    rule = get_label_rule(NOUN_RULE)
    labels, tally = label_and_tally(rule, pa.array(texts, pa.string()).cast(pa.binary()))
    counted = make_vocabulary(rule, tally)
    return FieldCaptions(
        field,
        np.array(per_sample),
        texts,
        np.array(tokens, np.int64),
        np.diff(labels.offsets),
        frequent_adjective_labels(counted.labels),
    )


def _decode_sampled_images(samples: Samples, rows: Sequence[int]) -> list[InspectedImage]:
    """Decode the images of rows in the order of the files; return them in the order of `rows`."""
    shown = set(rows[:NUM_SHOWN])
    image_of_row = {}
    for row in iterate_with_progress_bar(sorted(rows), len(rows), "decoding images", "images"):
        image_of_row[row] = _decode_sampled_image(samples, row, is_shown=row in shown)
    return [image_of_row[row] for row in rows]


def _decode_sampled_image(samples: Samples, row: int, *, is_shown: bool) -> InspectedImage:
    """Decode an image; a thumbnail is made if it is shown."""
    if samples.is_decoded:  # with colours that are premultiplied by alpha
        pixels = samples.premultiplied_rgba[row].permute(1, 2, 0).numpy()
        rgb = pixels[..., :3] + (255 - pixels[..., 3:])
        num_bytes = pixels.nbytes
    else:
        content = samples.image(row)
        num_bytes = len(content)
        try:
            rgb = decode_image(content).permute(1, 2, 0).numpy()
        except UnusableImageError as error:
            return InspectedImage(row, num_bytes, flaw=str(error))
    height, width, _ = rgb.shape
    thumbnail = _encode_webp_thumbnail(rgb) if is_shown else b""
    return InspectedImage(row, num_bytes, width, height, thumbnail=thumbnail)


def _encode_webp_thumbnail(rgb: npt.NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(rgb)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    return file.getvalue()


def _make_picture(samples: Samples, image: InspectedImage) -> EmbeddedPicture:
    """Return the thumbnail of a sample with its size and captions, or the reason why it cannot be decoded."""
    key = samples.key(image.row)
    captions = []
    for text in chain.from_iterable(samples.captions_by_field(image.row)):
        begin = text[:MAX_SHORTENED_CHARACTERS]
        captions.append(textwrap.shorten(begin, MAX_SHOWN_CHARACTERS, placeholder="…"))
    if image.flaw:
        return EmbeddedPicture(key, b"", captions, flaw=f"cannot be decoded: {image.flaw}")
    return EmbeddedPicture(key, image.thumbnail, captions, f"{image.width} x {image.height}")
