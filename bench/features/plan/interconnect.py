"""The interconnect of a cluster, from a data sheet. No torch here."""

from dataclasses import dataclass

from bench.environment.gpu_specs import GpuSpec
from bench.tables.formats import GB

# Share of a data sheet's bandwidth that is reached: nccl-tests reach 230 to 250 of 300 GB/s on 8 A100.
LINK_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Interconnect:
    """Bandwidths per GPU and direction, in bytes per second."""

    gpus_per_node: int
    link_bytes_per_second: float  # within a node
    network_bytes_per_second: float  # between nodes
    source: str = ""


def interconnect_from_data_sheet(gpu: GpuSpec, network_gbs: float | None = None) -> Interconnect:
    """Return the interconnect of a GPU: 80 % of the bandwidths of its data sheet, and NCCL's latencies.

    `network_gbs`, in GB/s per GPU and direction, is the bandwidth that is reached between nodes, in place of the data
    sheet's. Raises ValueError if neither is known.
    """
    source = f"{LINK_SHARE:.0%} of the data sheet's bandwidths, NCCL's latencies"
    if network_gbs is not None:
        network = GB * network_gbs
        source += "; between nodes as given"
    elif gpu.network_bytes_per_second is not None:
        network = LINK_SHARE * gpu.network_bytes_per_second
    else:
        raise ValueError(f"no data sheet has a network of {gpu.name}: give --internode-gbs-per-gpu")
    return Interconnect(
        gpus_per_node=gpu.gpus_per_node,
        link_bytes_per_second=LINK_SHARE * gpu.link_bytes_per_second,
        network_bytes_per_second=network,
        source=source,
    )
