"""Verification of tar shards against the manifest of their folder; a missing manifest is written."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bench.console.exit_codes import DISAGREEMENT, OK
from bench.console.tables import Table, print_tables
from bench.data.shards.manifest import (
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


def check_shards(data: str, json_file: Path | None) -> int:
    """Read shards whole; verify each folder's manifest, or write it if all shards of the folder are readable."""
    paths = find_tar_files(data)
    folders = {folder: read_manifest(folder) for folder in sorted({path.parent for path in paths})}
    found, bad = _read_each(paths)
    rows = []
    for folder, manifest in folders.items():
        there = {path.name: facts for path, facts in found.items() if path.parent == folder}
        if manifest is not None:
            bad |= {folder / name: "missing" for name in missing_shards(folder, manifest, data)}
            for name, facts in there.items():
                listed = manifest.shards.get(name)
                if wrong := "not in the manifest" if listed is None else describe_difference(listed, facts):
                    bad[folder / name] = wrong
        is_good = not any(path.parent == folder for path in bad)
        if manifest is None and is_good:
            write_manifest(folder, there)
        verdicts = ("written", "not written") if manifest is None else ("agrees", "disagrees")
        rows.append(
            {
                "folder": str(folder),
                "shards": len(there),
                "samples": sum(facts.samples for facts in there.values()),
                "GiB": sum(facts.bytes for facts in there.values()) / GIB,
                MANIFEST_NAME: verdicts[not is_good],
            }
        )
    faults = [{"shard": str(path), "fault": why} for path, why in sorted(bad.items())]
    print_tables([Table("Shards", rows), Table("Faulty shards", faults)], json_file)
    return DISAGREEMENT if bad else OK


def _read_each(paths: Sequence[Path]) -> tuple[dict[Path, ShardFacts], dict[Path, str]]:
    """Return the facts of each readable shard, and the error of each unreadable one."""
    found, bad = dict[Path, ShardFacts](), dict[Path, str]()
    with tqdm(total=sum(path.stat().st_size for path in paths), unit="B", unit_scale=True, mininterval=1) as bar:
        for path in paths:
            try:
                found[path] = compute_facts(path, bar.update)
            except ValueError as error:
                bad[path] = str(error).removeprefix(f"{path}: ")
    return found, bad
