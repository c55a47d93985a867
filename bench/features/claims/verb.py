"""The verb `claim`: claims of papers with their verdicts from records."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from bench.console.console import escape_unprintable_lines, log_damaged_files
from bench.console.tables import print_tables
from bench.environment.files import add_path_to_errors, read_intact_files
from bench.experiment.config import choose
from bench.features.claims.claims import get_claim, read_claims
from bench.records.record import Record, read_record, record_files


@dataclass(frozen=True)
class Claim:
    """List claims of papers with their verdicts from records, or show the card of one claim."""

    name: Positional[str | None] = None
    """Name of the claim; default all claims, as a list."""
    records: tuple[Path, ...] = (Path("results"),)
    """Folders of the records; a folder that does not exist is allowed for the default only."""
    out: Path | None = None
    """Path of the card, which ends in .html or .md; default: Markdown on standard output."""
    json: Path | None = None
    """File to which the card, or the list, is written as JSON."""
    purpose: ClassVar[str] = "report"
    resume_hint: ClassVar[str] = "start it again"

    def run(self) -> int:
        """Read the records; print or write the card, or the list."""
        # These import what draws charts, which the help of the program does not need.
        from bench.features.claims.card import make_card
        from bench.features.claims.page import claim_document, claim_markdown, claim_page, claims_table
        from bench.features.claims.statement import CLAIMS, make_speed_cards, speed_statement
        from reports.render.document import write_page

        damaged, rows = list[str](), list[Record]()
        for folder in self.records:
            if not folder.is_dir() and self.records != Claim.records:
                raise ValueError(f"{folder} is no folder; name folders of records with --records")
            found, errors = read_intact_files(record_files(folder), read_record)
            rows += found
            damaged += errors
        if self.name is None:
            if self.out is not None:
                raise ValueError(f"--out is for one claim: name it (there are {', '.join(read_claims())})")
            print_tables([claims_table([make_card(one, rows) for one in read_claims().values()])], self.json)
            return log_damaged_files(damaged)
        cards = make_speed_cards(rows) if self.name in CLAIMS else {}
        card = cards.get(self.name) or make_card(get_claim(self.name), rows)
        statement = speed_statement(cards) if cards else []
        if self.json is not None:
            with add_path_to_errors(self.json):
                self.json.write_text(
                    json.dumps(claim_document(card, statement), indent=1, allow_nan=False), encoding="utf-8"
                )
        if self.out is None:
            print(escape_unprintable_lines(claim_markdown(card, statement)), end="")
        else:
            writers = {".html": claim_page, ".md": claim_markdown}
            write_page(self.out, choose(self.out.suffix, writers, "ending of --out")(card, statement).encode())
        return log_damaged_files(damaged)
