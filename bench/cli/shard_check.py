"""A part of the verb `doctor`: whether tar shards are those of their manifest."""

from collections import defaultdict
from pathlib import Path

from bench.console.progress import make_bar
from bench.console.tables import Table
from bench.data.shards.facts import (
    MANIFEST_NAME,
    ShardFacts,
    compute_facts,
    describe_difference,
    missing_shards,
    read_manifest,
    write_manifest,
)
from bench.data.shards.shards import find_tar_files

GIB = 2**30


def verify_or_write_manifests(data: str) -> list[Table]:
    """Read shards whole; verify each folder's manifest, or write it if all shards of the folder are readable.

    Return the table of the folders and that of the faulty shards.
    """
    paths = find_tar_files(data)
    manifests = {folder: read_manifest(folder) for folder in sorted({path.parent for path in paths})}
    readable, faults = defaultdict[Path, dict[str, ShardFacts]](dict), dict[Path, str]()
    with make_bar("reading shards", sum(path.stat().st_size for path in paths), "B", is_scaled=True) as bar:
        for path in paths:
            try:
                readable[path.parent][path.name] = compute_facts(path, bar.update)
            except ValueError as error:
                faults[path] = str(error).removeprefix(f"{path}: ")
    rows = []
    for folder, manifest in manifests.items():
        shards = readable[folder]
        if manifest is not None:
            faults |= {folder / name: "missing" for name in missing_shards(folder, manifest, data)}
            for name, facts in shards.items():
                listed = manifest.shards.get(name)
                if fault := "not in the manifest" if listed is None else describe_difference(listed, facts):
                    faults[folder / name] = fault
        is_good = not any(path.parent == folder for path in faults)
        if manifest is None and is_good:
            write_manifest(folder, shards)
        verdicts = ("written", "not written") if manifest is None else ("agrees", "disagrees")
        row: dict[str, str | float] = {"folder": str(folder), "shards": len(shards)}
        row["samples"] = sum(facts.samples for facts in shards.values())
        row["GiB"] = sum(facts.bytes for facts in shards.values()) / GIB
        rows.append(row | {MANIFEST_NAME: verdicts[not is_good]})
    faulty = [{"shard": str(path), "fault": fault} for path, fault in sorted(faults.items())]
    return [Table("Shards", rows), Table("Faulty shards", faulty)]
