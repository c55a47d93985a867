"""The verb `claim`: claims of papers with their verdicts from records."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Folder, Json
from bench.console.console import escape_unprintable_lines, log_damaged_files_for_exit_code
from bench.console.tables import print_tables
from bench.environment.files import read_intact_files
from bench.experiment.config import look_up
from bench.features.claims.claims import CLAIMS
from bench.records.record import list_record_files, read_record
from bench.tables.formats import NBSP


@dataclass(frozen=True)
class ShowClaims:
    """List claims of papers with their verdicts from records, or show one claim."""

    # name of a claim, which is shown with its evidence; default: all claims are listed with their names
    name: Annotated[Positional[str | None], arg(metavar="CLAIM")] = None
    # folder with the records that decide the claims
    records: Folder = Path("results")
    json: Json = None

    def run(self) -> int:
        """Read the records; print the claim, or the list."""
        from bench.features.claims.tables import (
            claim_list_tables,
            describe_judged_claim,
            flop_and_evidence_tables,
        )
        from bench.features.claims.verdict import judge_claim

        if not self.records.is_dir() and self.records != ShowClaims.records:
            raise ValueError(f"{self.records} is no folder; name the folder of the records")
        records, errors = read_intact_files(list_record_files(self.records), read_record)
        if self.name is None:
            judged = [judge_claim(claim, records) for claim in CLAIMS.values()]
            print_tables(claim_list_tables(judged), self.json)
        else:
            claim = judge_claim(look_up(self.name, CLAIMS, "claim"), records)
            print(escape_unprintable_lines(describe_judged_claim(claim).replace(NBSP, " ")))
            print_tables(flop_and_evidence_tables(claim), self.json)
        return log_damaged_files_for_exit_code(errors)
