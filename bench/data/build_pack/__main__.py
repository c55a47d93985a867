"""Build the pack from the given inputs: `python -m bench.data.build_pack --help`."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import tyro
from tqdm import tqdm

from bench.data.build_pack.backgrounds import write_backgrounds
from bench.data.build_pack.emoji import LICENCES, emoji_pairs, icon_pairs, vendor_files
from bench.data.build_pack.furniture import catalogue_files, furniture_pairs
from bench.data.build_pack.openclipart import openclipart_pairs
from bench.data.build_pack.punkt import punkt_files, write_parameters
from bench.data.build_pack.shards import Pair, write_pack_manifest, write_pack_shard
from bench.data.build_pack.silhouettes import silhouette_files, silhouette_pairs
from bench.data.build_pack.wordnet import wordnet_files, write_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Rebuild the shipped pack from the packages of its images.

    Inputs that are not given are skipped. The package's docstring lists the packages and their versions.
    """

    out: Path  # folder to write the pack to
    npm: Path | None = None  # folder node_modules with the emoji and icon sets
    openclipart: Path | None = None  # .../openclipart/svg
    sweethome3d: Path | None = None  # .../sweethome3d/furniture
    animals: Path | None = None  # .../animal_mnist/data/Animal_MNIST
    wordnet: Path | None = None  # folder of the WordNet 3.0 database
    punkt: Path | None = None  # .../tokenizers/punkt_tab/english


class Step(NamedTuple):
    """A part of the pack to write."""

    needs: tuple[Path, ...]  # required files and folders
    write: Callable[[], None]


def steps(options: Options) -> list[Step]:
    """Return the parts of the pack that the given inputs allow, in the order of writing."""
    found: list[Step] = []

    def add_shard(name: str, needs: tuple[Path, ...], pairs: Iterator[Pair]) -> None:
        found.append(Step(needs, partial(_write_shard, options.out / f"{name}.tar.gz", needs, pairs)))

    if npm := options.npm:
        for vendor in LICENCES:
            part = "transfer" if vendor == "twemoji" else "pretrain"
            add_shard(f"{part}/{vendor}", vendor_files(npm, vendor), emoji_pairs(npm, vendor))
        icons = npm / "@iconify-json/flat-color-icons"
        add_shard(f"pretrain/{icons.name}", (icons / "icons.json",), icon_pairs(icons, "MIT"))
    if folder := options.openclipart:
        add_shard("pretrain/openclipart", (folder,), openclipart_pairs(folder))
    if folder := options.sweethome3d:
        add_shard("transfer/sweethome3d", catalogue_files(folder), furniture_pairs(folder))
    if folder := options.animals:
        add_shard("transfer/silhouettes", silhouette_files(folder), silhouette_pairs(folder))
    if folder := options.wordnet:
        found.append(Step(wordnet_files(folder), partial(write_tables, folder, options.out)))
    if folder := options.punkt:
        found.append(Step(punkt_files(folder), partial(write_parameters, folder, options.out)))
    return found


def rebuild(options: Options) -> None:
    """Write the shards, the word tables, the background photos and the manifest; log progress to stderr.

    Raises ValueError for a missing input before anything is written, and later for an input without images.
    """
    chosen = steps(options)
    needs = dict.fromkeys(path for step in chosen for path in step.needs)
    if missing := [str(path) for path in needs if not path.exists()]:
        raise ValueError(
            f"missing inputs: {', '.join(missing)} (see the docstring of bench.data.build_pack for packages)"
        )
    if (options.npm or options.openclipart) and find_spec("resvg_py") is None:
        raise ValueError("--npm and --openclipart need resvg-py to render SVG: pip install -e '.[pack]'")
    if skipped := [f"--{field.name}" for field in fields(options) if getattr(options, field.name) is None]:
        print(f"skipped, because not given: {', '.join(skipped)}", file=sys.stderr)
    for part in ("pretrain", "transfer"):
        (options.out / part).mkdir(parents=True, exist_ok=True)
    for step in chosen:
        step.write()
    write_backgrounds(options.out / "transfer")
    write_pack_manifest(options.out)


def _write_shard(path: Path, needs: tuple[Path, ...], pairs: Iterator[Pair]) -> None:
    source = path.name.removesuffix(".tar.gz")
    progress = tqdm(pairs, desc=source, unit=" pairs")
    blank = write_pack_shard(path, source, progress)
    if progress.n == blank:
        raise ValueError(f"{source}: no image found in {', '.join(map(str, needs))}")
    if blank:
        print(f"{source}: {blank} blank images dropped", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 if an input is missing or holds no image."""
    options = tyro.cli(Options, args=arguments)
    try:
        rebuild(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
