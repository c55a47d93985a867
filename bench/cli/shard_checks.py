"""A part of the verb `doctor`: whether tar shards are those of their manifest, and how fast this machine loads them."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pynvml
from tqdm import tqdm

from bench.config import Experiment, choose
from bench.console.tables import Table
from bench.data.shards.facts import (
    MANIFEST_NAME,
    ShardFacts,
    compute_facts,
    describe_difference,
    missing_shards,
    read_manifest,
    write_manifest,
)
from bench.data.shards.shards import find_tar_files
from bench.environment.cores import available_cores, choose_workers
from bench.environment.gpu_specs import GPU_SPECS, GpuSpec, find_gpu_spec
from bench.orchestration.preflight import count_gpus
from bench.statistics import judge_loading

GIB = 2**30
LOADING = "Loading"


def verify_or_write_manifests(data: str) -> list[Table]:
    """Read shards whole; verify each folder's manifest, or write it if all shards of the folder are readable.

    Return the table of the folders and that of the faulty shards.
    """
    paths = find_tar_files(data)
    manifests = {folder: read_manifest(folder) for folder in sorted({path.parent for path in paths})}
    readable, faults = defaultdict[Path, dict[str, ShardFacts]](dict), dict[Path, str]()
    with tqdm(total=sum(path.stat().st_size for path in paths), unit="B", unit_scale=True, mininterval=1) as bar:
        for path in paths:
            try:
                readable[path.parent][path.name] = compute_facts(path, bar.update)
            except ValueError as error:
                faults[path] = str(error).removeprefix(f"{path}: ")
    rows = []
    for folder, manifest in manifests.items():
        shards = readable[folder]
        if manifest is not None:
            faults |= {folder / name: "missing" for name in missing_shards(folder, manifest, data)}
            for name, facts in shards.items():
                listed = manifest.shards.get(name)
                if fault := "not in the manifest" if listed is None else describe_difference(listed, facts):
                    faults[folder / name] = fault
        is_good = not any(path.parent == folder for path in faults)
        if manifest is None and is_good:
            write_manifest(folder, shards)
        verdicts = ("written", "not written") if manifest is None else ("agrees", "disagrees")
        row: dict[str, str | float] = {"folder": str(folder), "shards": len(shards)}
        row["samples"] = sum(facts.samples for facts in shards.values())
        row["GiB"] = sum(facts.bytes for facts in shards.values()) / GIB
        rows.append(row | {MANIFEST_NAME: verdicts[not is_good]})
    faulty = [{"shard": str(path), "fault": fault} for path, fault in sorted(faults.items())]
    return [Table("Shards", rows), Table("Faulty shards", faulty)]


@dataclass(frozen=True, slots=True)
class GpuRate:
    """The images/s that a training takes on one GPU, None where they are not known, and their source."""

    images_per_second: float | None
    source: str


def chosen_gpu_spec(device: str | None) -> GpuSpec | None:
    """Return the data-sheet values of the named GPU, or of this machine's; None without one. ValueError: no such name.

    A GPU of this machine without a known data sheet counts as none.
    """
    if device is not None:
        return choose(device.lower(), GPU_SPECS, "device")
    return find_gpu_spec(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))) if count_gpus() else None


def predict_gpu_rate(experiment: Experiment, gpu: GpuSpec | None, given: float | None, results: Path) -> GpuRate:
    """Return the images/s of a GPU: those given, or the most that `plan` predicts."""
    if given is not None:
        return GpuRate(given, "--images-per-s")
    if gpu is None:
        return GpuRate(None, "no GPU of a known data sheet: give --device NAME or --images-per-s N")
    from bench.plan.workload import predict_most_images_per_second

    return GpuRate(predict_most_images_per_second(experiment, gpu, results), f"plan for {gpu.name_words}, high end")


def check_loading(experiment: Experiment, rate: GpuRate, results: Path, seconds: float) -> Table:
    """Time the loading of an experiment's shards on one core; compare the cores that the GPUs need with those here.

    ValueError or OSError for shards that cannot be loaded.
    """
    from bench.measure.loading import time_loading

    loading, cores, gpus = time_loading(experiment, results, seconds), available_cores(), max(1, count_gpus())
    per_core = loading.images_per_second
    row = {
        "experiment": experiment.name,
        "images/s per core": per_core.value,
        "low": per_core.low,
        "high": per_core.high,
        "CPU share": loading.cpu_share,
        "images/s per GPU": rate.images_per_second,
        "GPUs": gpus,
        "cores": cores,
    }
    counted = f"{loading.images:,} images in one thread, images per CPU second with 95 % interval over batches"
    if rate.images_per_second is None:
        return Table(LOADING, [row], f"{experiment.name}: the cores needed are not known ({rate.source}).\n{counted}")
    wanted = gpus * rate.images_per_second
    needed, least, most = (wanted / one for one in (per_core.value, per_core.high, per_core.low))
    verdict = judge_loading(least, most, cores - gpus)
    workers = choose_workers(cores, gpus, rate.images_per_second, per_core.value).count
    line = f"{experiment.name}: needs {needed:.1f} cores of {cores} ({least:.1f} to {most:.1f}): {verdict}"
    remedies = "; faster are jpeg_decoding=reduced and smaller images in the shards" if verdict != "enough" else ""
    return Table(
        LOADING,
        [row | {"cores needed": needed, "workers": workers, "verdict": verdict}],
        f"{line}{remedies}.\nImages/s per GPU: {rate.source}. One core for each GPU is left to its training process; "
        f"workers: --set workers={workers}.\n{counted}",
    )
