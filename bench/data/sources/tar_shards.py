"""Tar shards as a data source, with random access to samples."""

from pathlib import Path

import pyarrow as pa

from bench.data.open_files import read_at
from bench.data.paths import iterate_files
from bench.data.sample_index import IndexBuilder, IndexedSamples, IndexingSource
from bench.data.tar_samples import (
    decode_texts_and_json_objects,
    find_image_member,
    index_tar_samples,
)


class TarSamples(IndexedSamples):
    """The usable samples of shards."""

    place_columns = (("offset", pa.int64()), ("size", pa.int64()))  # in bytes

    def read_image(self, path: Path, offset: int, size: int) -> bytes:
        """Read a sample's encoded image or embeddings; ValueError if the shard has become shorter."""
        return read_at(path, self.index.name, offset, size)


class TarShards(IndexingSource):
    """Tar files as webdataset and img2dataset write them."""

    name = "tar shards"
    can_count_labels_from_files = True
    samples = TarSamples

    def recognises(self, data: str) -> bool:
        return next(iterate_files(data, (".tar",)), None) is not None

    def files(self, data: str) -> list[Path]:
        return sorted(iterate_files(data, (".tar",)), key=Path.as_posix)

    def add_samples(self, path: Path, builder: IndexBuilder) -> None:
        with path.open("rb") as file:
            for key, members in index_tar_samples(file, builder.suffixes_to_read):
                texts = decode_texts_and_json_objects(members, builder.suffixes_to_read)
                image = find_image_member(members, builder.suffixes)
                if image is None:
                    builder.add_sample(key, texts, None)
                else:
                    builder.add_sample(key, texts, (image.offset, image.size), image.size)
