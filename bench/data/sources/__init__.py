"""The built-in data sources; of several that read data, the first does."""

from bench.data.sources.arrow_tables import ArrowDatasets, ParquetImages
from bench.data.sources.image_pairs import ImagePairs
from bench.data.sources.image_tables import ImageTables
from bench.data.sources.shipped_pack import ShippedPack
from bench.data.sources.tar_shards import TarShards

SOURCES = (
    ShippedPack(),
    TarShards(),
    ArrowDatasets(),
    ParquetImages(),
    ImageTables(),
    ImagePairs(),
)
