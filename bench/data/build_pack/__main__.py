"""Build the pack from the given inputs: `python -m bench.data.build_pack --help`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import tyro
from tqdm import tqdm

from bench.data.build_pack.backgrounds import write_backgrounds
from bench.data.build_pack.emoji import emoji_pairs, icon_pairs, vendor_files
from bench.data.build_pack.furniture import catalogue_files, furniture_pairs
from bench.data.build_pack.openclipart import openclipart_pairs
from bench.data.build_pack.punkt import punkt_files, write_parameters
from bench.data.build_pack.shards import Pair, write_manifest, write_shard
from bench.data.build_pack.silhouettes import silhouette_files, silhouette_pairs
from bench.data.build_pack.wordnet import wordnet_files, write_tables

PRETRAINING_VENDORS = ("noto", "fluent-emoji", "fluent-emoji-flat", "fluent-3d", "fxemoji", "emojione")


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


class Source(NamedTuple):
    """A shard to write: PART/NAME.tar.gz."""

    part: str
    name: str
    needs: tuple[Path, ...]  # required files and folders
    pairs: Iterator[Pair]


def sources(options: Options) -> list[Source]:
    """Return the shards that the given inputs allow."""
    found: list[Source] = []
    if npm := options.npm:
        for vendor in (*PRETRAINING_VENDORS, "twemoji"):
            part = "pretrain" if vendor in PRETRAINING_VENDORS else "transfer"
            found.append(Source(part, vendor, vendor_files(npm, vendor), emoji_pairs(npm, vendor)))
        icons = npm / "@iconify-json/flat-color-icons"
        found.append(Source("pretrain", icons.name, (icons / "icons.json",), icon_pairs(icons, "MIT")))
    if folder := options.openclipart:
        found.append(Source("pretrain", "openclipart", (folder,), openclipart_pairs(folder)))
    if folder := options.sweethome3d:
        found.append(Source("transfer", "sweethome3d", catalogue_files(folder), furniture_pairs(folder)))
    if folder := options.animals:
        found.append(Source("transfer", "silhouettes", silhouette_files(folder), silhouette_pairs(folder)))
    return found


def rebuild(options: Options) -> None:
    """Write the shards, the word tables, the background photos and the manifest; log progress to stderr.

    Raises ValueError for a missing input before anything is written, and later for an input without images.
    """
    chosen = sources(options)
    _check_inputs(options, chosen)
    if skipped := [f"--{field.name}" for field in fields(options) if getattr(options, field.name) is None]:
        print(f"skipped, because not given: {', '.join(skipped)}", file=sys.stderr)
    for part in ("pretrain", "transfer"):
        (options.out / part).mkdir(parents=True, exist_ok=True)
    for source in chosen:
        pairs = tqdm(source.pairs, desc=source.name, unit=" pairs")
        blank = write_shard(options.out / source.part / f"{source.name}.tar.gz", source.name, pairs)
        if pairs.n == blank:
            raise ValueError(f"{source.name}: no image found in {', '.join(map(str, source.needs))}")
        if blank:
            print(f"{source.name}: {blank} blank images dropped", file=sys.stderr)
    if options.wordnet:
        write_tables(options.wordnet, options.out)
    if options.punkt:
        write_parameters(options.punkt, options.out)
    write_backgrounds(options.out / "transfer")
    write_manifest(options.out)


def _check_inputs(options: Options, chosen: Sequence[Source]) -> None:
    needs = [path for source in chosen for path in source.needs]
    needs += wordnet_files(options.wordnet) if options.wordnet else ()
    needs += punkt_files(options.punkt) if options.punkt else ()
    if missing := [str(path) for path in dict.fromkeys(needs) if not path.exists()]:
        raise ValueError(
            f"missing inputs: {', '.join(missing)} (see the docstring of bench.data.build_pack for packages)"
        )
    if (options.npm or options.openclipart) and find_spec("resvg_py") is None:
        raise ValueError("--npm and --openclipart need resvg-py to render SVG: pip install -e '.[pack]'")


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
