"""The summary of data: what is there, and random samples of its images and captions."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cli.options import experiment_from
from bench.data.captions.choice import parse_caption_choice
from bench.data.manifest import CACHE
from bench.data.sample_stream import MAX_UNDECODABLE_FRACTION
from bench.data.samples import get_source, max_unusable, name_source_in_errors, open_all_samples
from bench.data.subset import write_keys
from bench.environment.cores import available_cores
from bench.experiment.config import Experiment
from bench.features.data_summary.captions import FieldCaptionFacts, inspect_captions, read_sample_captions
from bench.features.data_summary.images import Duplicates, ImageReader, SampledImage, find_duplicates, inspect_images
from bench.interfaces.data_source import SampleRequest
from bench.measure.loading import LoadingSpeed, time_loading

LOADED = "clip-vit-b16"  # the experiment whose loading is timed, and whose sizes are drawn beside those of the data
MAX_CAPTION_ROWS = 50_000  # samples whose captions are read
NUM_SHOWN = 64  # images on the page
IN_MEMORY = "the source has decoded images in memory"
NOT_ASKED = "--loading-seconds is 0"


@dataclass(frozen=True, slots=True)
class ShownSample:
    """A sample on the page."""

    key: str
    image: SampledImage
    captions: Sequence[str]  # of all fields


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSummary:
    """What data hold: all samples are counted, images and captions are those of random samples."""

    data: str
    source: str  # the name of the data source
    files: int
    file_bytes: int
    samples: int  # that can be used
    skipped: Mapping[str, int]  # samples without an image or a caption, by what they lack
    notes: Sequence[str]  # of the source
    images: Sequence[SampledImage]
    duplicates: Duplicates
    captions: Sequence[FieldCaptionFacts]  # by field
    loading: LoadingSpeed | str  # or why it was not timed
    cores: int
    experiment: Experiment  # whose loading was timed
    caption: str | None  # the fields of captions, as they were given
    shown: Sequence[ShownSample]

    @property
    def total(self) -> int:
        """Number of samples, those that cannot be used included."""
        return self.samples + sum(self.skipped.values())

    @property
    def usable_images(self) -> list[SampledImage]:
        """The images of the sample that were decoded."""
        return [one for one in self.images if not one.flaw]

    @property
    def image_bytes(self) -> int:
        """Number of bytes of all images, expected from the sample."""
        return round(self.samples * sum(one.num_bytes for one in self.images) / len(self.images))

    @property
    def flaws(self) -> Counter[str]:
        """Number of images of the sample that cannot be decoded, by reason."""
        return Counter(one.flaw for one in self.images if one.flaw)

    @property
    def refusals(self) -> list[str]:
        """Sentences on why a training refuses the data, or would end."""
        lacking, share = sum(self.skipped.values()), self.flaws.total() / len(self.images)
        found = []
        if lacking > max_unusable(self.total):
            found.append(f"A training refuses these data: {lacking:,} of {self.total:,} samples cannot be used.")
        if share > MAX_UNDECODABLE_FRACTION:
            found.append(
                f"A training would end: more than {MAX_UNDECODABLE_FRACTION:.0%} of the images cannot be decoded "
                f"({self.flaws.total():,} of {len(self.images):,})."
            )
        return found


def summarize_data(
    data: str,
    caption: str | None,
    results: Path,
    num_images: int,
    seed: int,
    loading_seconds: float,
    key_file: Path | None = None,
) -> DataSummary:
    """Read data and time their loading; indexes of the data lie in `results`. Raises ValueError or OSError.

    The keys of the usable samples are written into the key file, without those of sampled images that have a flaw.
    """
    experiment = experiment_from(LOADED, (), data, caption=caption)
    source, choice = get_source(data), parse_caption_choice(caption)
    samples = open_all_samples(data, SampleRequest(cache=results / CACHE, captions=choice))
    with name_source_in_errors(source, data):
        if not len(samples):
            raise ValueError(f"{data}: no sample can be used {samples.explain_skipped()}")
        files, total, draw = source.files(data), len(samples), random.Random(seed)  # noqa: S311
        rows = draw.sample(range(total), min(num_images, total))
        caption_rows = sorted(draw.sample(range(total), min(MAX_CAPTION_ROWS, total)))
        reader = ImageReader(samples)
        images = inspect_images(reader, rows, NUM_SHOWN)
        if key_file is not None:
            write_keys(key_file, samples.keys, [samples.key(one.row) for one in images if one.flaw])
        loading: LoadingSpeed | str = IN_MEMORY if samples.is_decoded else NOT_ASKED
        if loading_seconds and not samples.is_decoded:
            loading = _time_loading(experiment, results, loading_seconds)
        return DataSummary(
            data=data,
            source=source.name,
            files=len(files),
            file_bytes=sum(path.stat().st_size for path in files),
            samples=total,
            skipped=samples.skipped,
            notes=samples.notes(),
            images=images,
            duplicates=find_duplicates(reader, images, total),
            captions=inspect_captions(samples, caption_rows, [name or samples.caption_field for name in choice.names]),
            loading=loading,
            cores=available_cores(),
            experiment=experiment,
            caption=caption,
            shown=[
                ShownSample(
                    samples.key(one.row),
                    one,
                    [text for texts in read_sample_captions(samples, one.row) for text in texts],
                )
                for one in images[:NUM_SHOWN]
            ],
        )


def _time_loading(experiment: Experiment, results: Path, seconds: float) -> LoadingSpeed | str:
    """Time the loading; return the error of data that a training would not load."""
    try:
        return time_loading(experiment, results, seconds)
    except (ValueError, OSError) as error:
        return str(error)
