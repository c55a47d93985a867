"""The built-in data sources; of several that read data, the first does."""

from bench.data.sources.arrow_tables import ParquetImagesViaArrow, SavedHuggingFaceDatasets
from bench.data.sources.image_pairs import ImageTextFilePairs
from bench.data.sources.image_tables import TablesOfImageFiles
from bench.data.sources.shipped_pack import ShippedPack
from bench.data.sources.tar_shards import TarShards

SOURCES = (
    ShippedPack(),
    TarShards(),
    SavedHuggingFaceDatasets(),
    ParquetImagesViaArrow(),
    TablesOfImageFiles(),
    ImageTextFilePairs(),
)
