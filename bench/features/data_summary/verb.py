"""The verb `data`: images, captions and faults of data, before a training reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import CaptionFields, Folder, ImageColumn, Json
from bench.console.console import OK
from bench.console.options import require_option_in_range
from bench.console.tables import print_tables
from bench.data.samples import get_source
from bench.experiment.fields import PACK_DATA, SampleSettings


@dataclass(frozen=True, slots=True)
class SummarizeData:
    """Show the contents of data before a training reads them: images, captions and faults.

    A random sample of the images is decoded and one of the captions is read, so that a million samples take little
    longer than thousands. Each table gives the size of its sample.
    """

    data: Annotated[
        Positional[str],
        arg(metavar="PATH", help="folder, file or glob of data, or shipped-pack"),
    ]
    caption_fields: CaptionFields = None
    image_column: ImageColumn = None
    # number of images, drawn at random, that are decoded
    decoded_images: int = 2000
    seed: int = 0  # seed of the random sample: another seed decodes and shows other images
    # HTML page to write: the tables, and 64 of the sampled images with their captions; default: none
    out: Annotated[Path | None, arg(metavar="FILE.html")] = None
    # csv file to write, as --set subset=FILE reads it: the keys of all samples but those left out and the decoded
    # images with a flaw; default: none
    usable_subset_out: Annotated[Path | None, arg(metavar="FILE.csv")] = None
    # folder in whose subfolder `cache` the index of the data is kept: the RESULTS of later commands
    index_folder: Folder = Path("results")
    json: Json = None

    def run(self) -> int:
        """Read the samples, print the tables, and write the page."""
        require_option_in_range("decoded-images", self.decoded_images, 1, 1e6)
        if self.data != PACK_DATA:
            get_source(self.data)  # refuses what no source reads, before PyTorch is imported
        from bench.features.data_summary.summary import summarize_data
        from bench.features.data_summary.tables import summary_tables

        inputs = SampleSettings(
            data=self.data, caption_fields=self.caption_fields, image_column=self.image_column
        )
        summary = summarize_data(
            inputs, self.index_folder, self.decoded_images, self.seed, self.usable_subset_out
        )
        print_tables(summary_tables(summary), self.json)
        if self.out is not None:
            from bench.features.data_summary.page import render_summary_html
            from reports.render.document import write_file_and_print_path

            write_file_and_print_path(self.out, render_summary_html(summary).encode())
        return OK
