"""A part of the verb `doctor`: whether tar shards are those of their manifest."""

from dataclasses import dataclass
from pathlib import Path

from bench.console.progress import make_bar
from bench.data.shards.facts import (
    MANIFEST_NAME,
    ShardFacts,
    compute_facts,
    describe_difference,
    missing_shards,
    read_manifest,
    write_manifest,
)
from bench.data.sources.tar_shards import find_tar_files
from bench.tables.formats import GIB
from bench.tables.tables import Table


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """What reading shards whole found."""

    shards: dict[Path, dict[str, ShardFacts]]  # readable ones by folder and name
    unlisted: set[Path]  # folders without a manifest
    faults: dict[Path, str]  # by shard

    def write_missing_manifests(self) -> None:
        """Write the manifests of folders that have none."""
        for folder in self.unlisted:
            write_manifest(folder, self.shards[folder])

    def tables(self) -> list[Table]:
        """Return the table of the folders and that of the faulty shards; without faults all manifests are there."""
        rows = []
        for folder, shards in self.shards.items():
            if folder in self.unlisted:
                verdict = "not written" if self.faults else "written"
            else:
                has_fault = any(path.parent == folder for path in self.faults)
                verdict = "disagrees" if has_fault else "agrees"
            row: dict[str, str | float] = {
                "folder": str(folder),
                "shards": len(shards),
                "samples, unusable included": sum(facts.samples for facts in shards.values()),
                "GiB": sum(facts.bytes for facts in shards.values()) / GIB,
                MANIFEST_NAME: verdict,
            }
            rows.append(row)
        faulty = [
            {"shard": str(path), "fault": fault} for path, fault in sorted(self.faults.items())
        ]
        return [Table.of_figures("Shards", rows), Table.of_figures("Faulty shards", faulty)]


def verify_shards(data: str) -> ShardCheck:
    """Read shards whole, and compare them with the manifests of their folders."""
    paths = find_tar_files(data)
    manifests = {
        folder: read_manifest(folder) for folder in sorted({path.parent for path in paths})
    }
    readable = {folder: dict[str, ShardFacts]() for folder in manifests}
    faults = dict[Path, str]()
    with make_bar(
        "reading shards", sum(path.stat().st_size for path in paths), "B", is_scaled=True
    ) as bar:
        for path in paths:
            try:
                readable[path.parent][path.name] = compute_facts(path, bar.update)
            except ValueError as error:
                faults[path] = str(error).removeprefix(f"{path}: ")
    for folder, manifest in manifests.items():
        if manifest is None:
            continue
        for name in missing_shards(folder, manifest, data):
            faults[folder / name] = "missing"
        for name, facts in readable[folder].items():
            listed = manifest.shards.get(name)
            fault = "not in the manifest" if listed is None else describe_difference(listed, facts)
            if fault:
                faults[folder / name] = fault
    unlisted = {folder for folder, manifest in manifests.items() if manifest is None}
    return ShardCheck(readable, unlisted, faults)
