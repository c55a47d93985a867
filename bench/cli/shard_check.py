"""Verification of tar shards against the manifest of their folder; a missing manifest is written."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bench.console.exit_codes import DISAGREEMENT, OK
from bench.console.tables import Table, show
from bench.data.shards.manifest import NAME, ShardFacts, difference, facts_of, missing, read_manifest, write_manifest
from bench.data.shards.shards import tar_shards

GIB = 2**30


def check_shards(data: str, json_file: Path | None) -> int:
    """Read shards whole; verify each folder's manifest, or write it if all shards of the folder are readable."""
    paths = tar_shards(data)
    folders = {folder: read_manifest(folder) for folder in sorted({path.parent for path in paths})}
    found, bad = _read_each(paths)
    rows = []
    for folder, manifest in folders.items():
        there = {path.name: facts for path, facts in found.items() if path.parent == folder}
        if manifest is not None:
            bad |= {folder / name: "missing" for name in missing(folder, manifest, data)}
            for name, facts in there.items():
                listed = manifest.shards.get(name)
                if wrong := "not in the manifest" if listed is None else difference(listed, facts):
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
                NAME: verdicts[not is_good],
            }
        )
    faults = [{"shard": str(path), "fault": why} for path, why in sorted(bad.items())]
    show([Table("Shards", rows), Table("Faulty shards", faults)], json_file)
    return DISAGREEMENT if bad else OK


def _read_each(paths: Sequence[Path]) -> tuple[dict[Path, ShardFacts], dict[Path, str]]:
    """Return the facts of each readable shard, and the error of each unreadable one."""
    found, bad = dict[Path, ShardFacts](), dict[Path, str]()
    with tqdm(total=sum(path.stat().st_size for path in paths), unit="B", unit_scale=True, mininterval=1) as bar:
        for path in paths:
            try:
                found[path] = facts_of(path, bar.update)
            except ValueError as error:
                bad[path] = str(error).removeprefix(f"{path}: ")
    return found, bad
