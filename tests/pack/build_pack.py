"""Build the shipped pack from the packages that its images come from: `python -m tests.pack.build_pack FOLDER OUT`.

The versions below give the shipped bytes, file by file (Python 3.11 and Pillow 13.0; another Pillow version may encode
WebP with slightly different pixels). In an empty FOLDER:

    npm install --ignore-scripts emojibase-data@17.0.0 @iconify-json/noto@1.2.9 @iconify-json/fluent-emoji@1.2.7 \
        @iconify-json/fluent-emoji-flat@1.2.6 @lobehub/fluent-emoji-3d@1.1.0 @iconify-json/fxemoji@1.2.2 \
        @iconify-json/emojione@1.2.3 @iconify-json/twemoji@1.2.5 @iconify-json/flat-color-icons@1.2.3
    apt-get download openclipart-svg sweethome3d-furniture wordnet-base
    for package in *.deb; do dpkg -x "$package" debian; done
    pip download --no-deps animal-mnist==0.4 llama-index-core==0.14.25
    python -m zipfile -e animal_mnist-0.4-py3-none-any.whl animals
    python -m zipfile -e llama_index_core-0.14.25-py3-none-any.whl llama
    pip install resvg-py==0.5.0

(Debian 13 has openclipart-svg 1:0.18+dfsg-19, sweethome3d-furniture 1.8-1 and wordnet-base 1:3.0-39.)
The build takes about 90 seconds on one core. The background photos come with scikit-image and scikit-learn.
"""

import sys
from pathlib import Path

from tests.pack.clip_art import openclipart_pairs
from tests.pack.emoji import LICENCES, emoji_pairs, icon_pairs
from tests.pack.shards import write_manifest, write_shard
from tests.pack.transfer_images import furniture_pairs, silhouette_pairs, write_backgrounds
from tests.pack.word_tables import write_punkt_parameters, write_wordnet_tables

DEBIAN = "debian/usr/share"
PUNKT = "llama/llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english"


def build(folder: Path, out: Path) -> None:
    """Write the shards, the word tables, the background photos and the manifest to `out`."""
    npm = folder / "node_modules"
    pretrain = out / "pretrain"
    transfer = out / "transfer"
    pretrain.mkdir(parents=True, exist_ok=True)
    transfer.mkdir(exist_ok=True)
    for vendor in LICENCES:
        part = transfer if vendor == "twemoji" else pretrain
        write_shard(part, vendor, emoji_pairs(npm, vendor))
    write_shard(
        pretrain, "flat-color-icons", icon_pairs(npm / "@iconify-json/flat-color-icons", "MIT")
    )
    write_shard(pretrain, "openclipart", openclipart_pairs(folder / DEBIAN / "openclipart/svg"))
    write_shard(transfer, "sweethome3d", furniture_pairs(folder / DEBIAN / "sweethome3d/furniture"))
    write_shard(
        transfer, "silhouettes", silhouette_pairs(folder / "animals/animal_mnist/data/Animal_MNIST")
    )
    write_backgrounds(transfer)
    write_wordnet_tables(folder / DEBIAN / "wordnet", out)
    write_punkt_parameters(folder / PUNKT, out)
    write_manifest(out)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
