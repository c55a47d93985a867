"""The interconnect of a plan: given, measured by `doctor`, or by the data sheet. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.environment.gpu_specs import GB, GpuSpec, find_gpu_spec
from bench.features.plan.collectives import LINK_SHARE, LINK_US, NETWORK_US, Interconnect
from bench.records.record import LinkSpeed, read_record, record_files

MICRO = 1e-6
# Options of the command, their titles and units.
LINK_OPTIONS: Mapping[str, tuple[str, str]] = {
    "per_node": ("GPUs per node", ""),
    "link_gbs": ("links within a node", " GB/s per GPU and direction"),
    "link_us": ("links within a node, latency", " us per step"),
    "network_gbs": ("network", " GB/s per GPU and direction"),
    "network_us": ("network, latency", " us per step"),
}


@dataclass(frozen=True, slots=True)
class LinkValue:
    """The value of an option of the interconnect, and its source."""

    value: float
    source: str


def choose_links(
    given: Mapping[str, float | None], record: Path | None, device: GpuSpec | None
) -> dict[str, LinkValue]:
    """Return every option: given values, else those of a record, of the data sheet, or NCCL's latencies.

    Raises ValueError for options without any value.
    """
    chosen = {
        "link_us": LinkValue(LINK_US, "NCCL's constant"),
        "network_us": LinkValue(NETWORK_US, "NCCL's constant"),
    }
    if device is not None:
        share = f"{LINK_SHARE:.0%} of the data sheet's (nccl-tests on A100)"
        chosen["per_node"] = LinkValue(device.gpus_per_node, "data sheet")
        chosen["link_gbs"] = LinkValue(LINK_SHARE * device.link_bytes_per_second / GB, share)
        if device.network_bytes_per_second is not None:
            chosen["network_gbs"] = LinkValue(
                LINK_SHARE * device.network_bytes_per_second / GB, share
            )
    measured = {} if record is None else measured_links(record, device)
    for values, source in ((measured, f"measured: {record}"), (given, "given")):
        for name, value in values.items():
            if value is not None:
                chosen[name] = LinkValue(value, source)
    unknown = [f"--{name.replace('_', '-')}" for name in LINK_OPTIONS if name not in chosen]
    if unknown:
        raise ValueError(
            f"no data sheet is known for the interconnect: give --links or {', '.join(unknown)}"
        )
    return {name: chosen[name] for name in LINK_OPTIONS}


def to_interconnect(links: Mapping[str, LinkValue]) -> Interconnect:
    """Return the interconnect in bytes per second and seconds."""
    return Interconnect(
        gpus_per_node=int(links["per_node"].value),
        link_bytes_per_second=GB * links["link_gbs"].value,
        link_latency_seconds=MICRO * links["link_us"].value,
        network_bytes_per_second=GB * links["network_gbs"].value,
        network_latency_seconds=MICRO * links["network_us"].value,
    )


def measured_links(path: Path, device: GpuSpec | None) -> dict[str, float | None]:
    """Return what `doctor` measured, by option: of a record file, or of the newest link record of a folder.

    None: the job had one node, or one process on each. ValueError without a record, or if it is of another device than
    the plan's, which is None without a data sheet.
    """
    records = [read_record(file) for file in ([path] if path.is_file() else record_files(path))]
    link_records = [record for record in records if isinstance(record.measured, LinkSpeed)]
    if not link_records:
        raise ValueError(
            f"{path} holds no link record; torchrun … -m bench doctor stores them in its results folder"
        )
    link = link_records[-1].measured
    where = link_records[-1].circumstances
    assert isinstance(link, LinkSpeed)
    if find_gpu_spec(where.machine.partition(";")[0]) != device:
        planned = device.name_words if device else "a device without a data sheet"
        raise ValueError(
            f"the links of {path} are those of {where.machine}, and the plan is for {planned}"
        )
    return {
        "per_node": link.processes_per_node or where.processes,
        "link_gbs": _divide(link.bytes_per_second, GB),
        "link_us": _divide(link.latency_seconds, MICRO),
        "network_gbs": _divide(link.network_bytes_per_second, GB),
        "network_us": _divide(link.network_latency_seconds, MICRO),
    }


def _divide(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
