"""The shipped pack as a data source: its images are decoded once, into the user's cache. No torch here."""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from bench.console.console import log
from bench.data.manifest import PARTS, decoded_part_path, pretrain_shards, user_cache_folder
from bench.environment.circumstances import CHECKOUT
from bench.experiment.fields import PACK_DATA
from bench.interfaces.data_source import DataSource, SampleFieldsRequest, Samples

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor


class ShippedPack(DataSource):
    """Images of 64 pixels with generated captions."""

    name = "the shipped pack"

    def recognises(self, data: str) -> bool:
        return data == PACK_DATA

    def files(self, _data: str) -> list[Path]:
        return pretrain_shards()

    def open(self, _data: str, _request: SampleFieldsRequest) -> "PackSamples":
        cache = user_cache_folder()
        decode_pack_unless_cached(cache, ["pretrain"])
        return PackSamples(cache)


class PackSamples(Samples):
    """The decoded pack in a cache."""

    is_decoded = True

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, row: int) -> str:
        return self.keys[row]

    def caption(self, row: int) -> str:
        return str(self._texts["captions"][row])

    @property
    def keys(self) -> list[str]:
        return list[str](self._texts["keys"])

    @cached_property
    def premultiplied_rgba(self) -> "UInt8[Tensor, 'samples 4 height width']":
        from bench.data.pack import load_pack_images

        return load_pack_images("pretrain", self._cache).premultiplied_rgba

    def notes(self) -> list[str]:
        return []

    @cached_property
    def _texts(self) -> dict[str, Any]:
        with safe_open(decoded_part_path("pretrain", self._cache), framework="np") as file:
            texts: dict[str, Any] = json.loads(file.metadata()["texts"])
            return texts


def decode_pack_unless_cached(cache: Path, parts: Sequence[str] = PARTS) -> None:
    """Decode the pack's images in a separate process, unless these parts are in the cache; no run includes the cost."""
    if not all(decoded_part_path(part, cache).is_file() for part in parts):
        log(f"decoding the pack's images into {cache}, once")
        command = [sys.executable, "-m", "bench.data.pack", *parts]
        done = subprocess.run(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            reason = [f"exit code {done.returncode}", *done.stderr.splitlines()][-1]
            raise OSError(
                f"the pack's images cannot be decoded into {cache}: {reason}; "
                "name a folder for caches with room for 1 GB in XDG_CACHE_HOME"
            )
