"""The built-in data sources, a file each."""

from bench.data.sources.shipped_pack import ShippedPack
from bench.data.sources.tar_shards import TarShards

SOURCES = (ShippedPack(), TarShards())
