"""Importing this tokenises the pack's captions, once for all tests and for all processes that fork from here."""

import json
import tarfile
from functools import lru_cache

from bench.data.manifest import pretrain_shards
from bench.labels import subwords

subwords.encode_caption = lru_cache(2**16)(subwords.encode_caption)
for shard in pretrain_shards():
    with tarfile.open(shard) as tar:
        for member in tar:
            if member.name.endswith(".json"):
                subwords.encode_caption(json.load(tar.extractfile(member))["caption"])
