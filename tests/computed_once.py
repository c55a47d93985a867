"""Importing this does once what all tests, and all processes that fork from here, would do again and again.

It tokenises the pack's captions, and times the matrix products that a run compares its steps with.
"""

import json
import tarfile
from functools import cache, lru_cache

import torch

from bench.data.manifest import pretrain_shards
from bench.labels import subwords
from bench.measure import speed

subwords.encode_caption_without_start_and_end = lru_cache(2**16)(
    subwords.encode_caption_without_start_and_end
)
for shard in pretrain_shards():
    with tarfile.open(shard) as tar:
        for member in tar:
            if member.name.endswith(".json"):
                subwords.encode_caption_without_start_and_end(
                    json.load(tar.extractfile(member))["caption"]
                )

speed.find_or_measure_peak_flops_and_source = cache(speed.find_or_measure_peak_flops_and_source)
threads = torch.get_num_threads()
torch.set_num_threads(1)  # others would not outlive a fork
speed.find_or_measure_peak_flops_and_source(torch.device("cpu"), "fp32")
torch.set_num_threads(threads)
