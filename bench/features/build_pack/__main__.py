"""Build the pack from the given inputs: `python -m bench.features.build_pack --help`."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import tyro
from tqdm import tqdm

from bench.features.build_pack import language_tables, transfer_images
from bench.features.build_pack.pretrain_images import LICENCES, emoji_pairs, icon_pairs, openclipart_pairs, vendor_files
from bench.features.build_pack.shards import Pair, write_pack_manifest, write_pack_shard


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


Output = tuple[tuple[Path, ...], Callable[[], None]]  # required files and folders, and what writes a part of the pack


def choose_outputs(options: Options) -> list[Output]:
    """Return the parts of the pack that the given inputs allow, in the order of writing."""
    outputs: list[Output] = []

    def add_shard(name: str, inputs: tuple[Path, ...], pairs: Iterator[Pair]) -> None:
        outputs.append((inputs, partial(_write_nonempty_shard, options.out / f"{name}.tar.gz", inputs, pairs)))

    if npm := options.npm:
        for vendor in LICENCES:
            part = "transfer" if vendor == "twemoji" else "pretrain"
            add_shard(f"{part}/{vendor}", vendor_files(npm, vendor), emoji_pairs(npm, vendor))
        icons = npm / "@iconify-json/flat-color-icons"
        add_shard(f"pretrain/{icons.name}", (icons / "icons.json",), icon_pairs(icons, "MIT"))
    if folder := options.openclipart:
        add_shard("pretrain/openclipart", (folder,), openclipart_pairs(folder))
    if folder := options.sweethome3d:
        inputs = transfer_images.catalogue_files(folder)
        add_shard("transfer/sweethome3d", inputs, transfer_images.furniture_pairs(folder))
    if folder := options.animals:
        inputs = transfer_images.silhouette_files(folder)
        add_shard("transfer/silhouettes", inputs, transfer_images.silhouette_pairs(folder))
    if folder := options.wordnet:
        write = partial(language_tables.write_wordnet_tables, folder, options.out)
        outputs.append((language_tables.wordnet_files(folder), write))
    if folder := options.punkt:
        write = partial(language_tables.write_punkt_parameters, folder, options.out)
        outputs.append((language_tables.punkt_files(folder), write))
    return outputs


def rebuild(options: Options) -> None:
    """Write the shards, the word tables, the background photos and the manifest; log progress to stderr.

    Raises ValueError for a missing input before anything is written, and later for an input without images.
    """
    outputs = choose_outputs(options)
    inputs = dict.fromkeys(path for required, _ in outputs for path in required)
    if missing := [str(path) for path in inputs if not path.exists()]:
        raise ValueError(
            f"missing inputs: {', '.join(missing)} (see the docstring of bench.features.build_pack for packages)"
        )
    if (options.npm or options.openclipart) and find_spec("resvg_py") is None:
        raise ValueError("--npm and --openclipart need resvg-py to render SVG: pip install -e '.[pack]'")
    if skipped := [f"--{field.name}" for field in fields(options) if getattr(options, field.name) is None]:
        print(f"skipped, because not given: {', '.join(skipped)}", file=sys.stderr)
    for part in ("pretrain", "transfer"):
        (options.out / part).mkdir(parents=True, exist_ok=True)
    for _, write in outputs:
        write()
    transfer_images.write_backgrounds(options.out / "transfer")
    write_pack_manifest(options.out)


def _write_nonempty_shard(path: Path, inputs: tuple[Path, ...], pairs: Iterator[Pair]) -> None:
    source = path.name.removesuffix(".tar.gz")
    progress = tqdm(pairs, desc=source, unit=" pairs")
    blank = write_pack_shard(path, source, progress)
    if progress.n == blank:
        raise ValueError(f"{source}: no image found in {', '.join(map(str, inputs))}")
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
