"""The verb `claim`: claims of papers with their verdicts from records."""

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from bench.console.console import escape_unprintable_lines, log_damaged_files
from bench.console.tables import print_tables
from bench.environment.files import add_path_to_errors, read_intact_files
from bench.experiment.config import choose
from bench.features.claims.claims import CLAIMS, get_claim
from bench.records.record import Record, read_record, record_files


@dataclass(frozen=True)
class ClaimVerb:
    """List claims of papers with their verdicts from records, or show one claim."""

    name: Positional[str | None] = None
    """Name of the claim; default all claims, as a list."""
    records: tuple[Path, ...] = (Path("results"),)
    """Folders of the records; a folder that does not exist is allowed for the default only."""
    out: Path | None = None
    """Path of the page of one claim, which ends in .html or .md; default: Markdown on standard output."""
    json: Path | None = None
    """File to which the claim, or the list, is written as JSON."""

    def run(self) -> int:
        """Read the records; print or write the claim, or the list."""
        # These import what renders pages, which the help of the program does not need.
        from bench.features.claims.page import (
            claim_document,
            claim_markdown,
            claim_page,
            claim_tables,
        )
        from bench.features.claims.verdict import judge_claim
        from reports.render.document import write_page

        records, damaged = self._read_records()
        if self.name is None:
            if self.out is not None:
                raise ValueError(f"--out is for one claim: name it (there are {', '.join(CLAIMS)})")
            print_tables(
                claim_tables([judge_claim(claim, records) for claim in CLAIMS.values()]), self.json
            )
            return log_damaged_files(damaged)
        judged = judge_claim(get_claim(self.name), records)
        if self.json is not None:
            with add_path_to_errors(self.json):
                self.json.write_text(
                    json.dumps(claim_document(judged), indent=1, allow_nan=False), encoding="utf-8"
                )
        if self.out is None:
            print(escape_unprintable_lines(claim_markdown(judged)), end="")
        else:
            writers = {".html": claim_page, ".md": claim_markdown}
            write_page(
                self.out, choose(self.out.suffix, writers, "ending of --out")(judged).encode()
            )
        return log_damaged_files(damaged)

    def _read_records(self) -> tuple[list[Record], list[str]]:
        """Return the records of all folders, and the errors of damaged files."""
        records = []
        damaged = []
        for folder in self.records:
            if not folder.is_dir() and self.records != ClaimVerb.records:
                raise ValueError(f"{folder} is no folder; name folders of records with --records")
            intact, errors = read_intact_files(record_files(folder), read_record)
            records += intact
            damaged += errors
        return records, damaged
