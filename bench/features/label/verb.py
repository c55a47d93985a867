"""The verb `label`: counts the labels of captions into a vocabulary, and shows those of one caption."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import CaptionFields, ImageColumn, Json
from bench.cli.own_vocabulary import cut_vocabulary, write_and_log_vocabulary
from bench.console.console import OK
from bench.console.options import require_option_in_range
from bench.console.tables import print_tables
from bench.experiment.fields import SampleSettings
from bench.features.label.tables import (
    caption_count_table,
    caption_label_table,
    frequent_labels_table,
)
from bench.labels.counting import count_labels
from bench.labels.labeller import get_label_rule, make_vocabulary


@dataclass(frozen=True, slots=True)
class CountLabels:
    """Count the labels of captions into a vocabulary, or show the labels of a caption.

    Inputs are data that a training reads, or caption files: parquet, csv, tsv, jsonl, plain text and webdataset tars.
    """

    # data, or files, globs or folders of captions
    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="PATH ...")] = ()
    # .json file to write: the vocabulary, as --label-vocabulary reads it; required without --try-rule-on
    out: Annotated[Path | None, arg(metavar="FILE.json")] = None
    # rule that finds labels in captions: corenet (CatLIP's nouns of WordNet), paper (those that a tagger calls nouns)
    # or subword (CLIP's tokens, as in SuperClass)
    rule: Annotated[str, arg(metavar="corenet|paper|subword")] = "corenet"
    caption_fields: CaptionFields = None
    image_column: ImageColumn = None
    min_count: int | None = None  # leave out labels that occur less often; default: 1
    # largest number of labels: the most frequent are kept; default: all
    max_labels: int | None = None
    # print the labels of this caption by --rule, and do nothing else
    try_rule_on: Annotated[str | None, arg(metavar="CAPTION")] = None
    # number of processes that read files; default: one per core, fewer for files under 8 MiB per process
    workers: int | None = None
    json: Json = None

    def run(self) -> int:
        """Show the labels of a caption, or count a vocabulary."""
        require_option_in_range("min-count", self.min_count, 1, 1e12)
        require_option_in_range("max-labels", self.max_labels, 1, 1e12)
        require_option_in_range("workers", self.workers, 1, 1024)
        if self.try_rule_on is not None:
            table = caption_label_table(get_label_rule(self.rule), self.try_rule_on)
            print_tables([table], self.json)
            return OK
        if self.out is None:
            raise ValueError("--out is missing: name the .json file for the vocabulary")
        if not self.inputs:
            raise ValueError("no input given: name data, or files, globs or folders of captions")
        sources = [
            SampleSettings(
                data=name, caption_fields=self.caption_fields, image_column=self.image_column
            )
            for name in self.inputs
        ]
        total = count_labels(sources, self.rule, self.workers)
        vocabulary = make_vocabulary(get_label_rule(self.rule), total)
        print_tables([caption_count_table(total), frequent_labels_table(vocabulary)], self.json)
        cut = cut_vocabulary(vocabulary, self.min_count or 1, self.max_labels)
        write_and_log_vocabulary(cut, self.out)
        return OK
