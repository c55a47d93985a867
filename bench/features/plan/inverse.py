"""Communication in a ratio of speeds: its factor, and what would give a ratio. No torch here."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from bench.environment.gpu_specs import GB, GpuSpec
from bench.experiment.published import PUBLISHED_RUNS, PublishedRun
from bench.features.plan.collectives import LINK_SHARE
from bench.features.plan.model import NO_STEP_COST, OVERLAP, Cluster, PlanCase, plan_step
from bench.features.plan.published import NCCL, fit_utilisation, with_released_loss
from bench.tables.tables import Table

SOLUTION_TITLE, POINTS_TITLE = "Combinations that give the ratio", "Published and measured differences"
BANDWIDTH_SHARES = (2.0, 1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)  # of the cluster's network
LATENCY_FACTORS = (1, 10, 100)  # of the cluster's latency between nodes
MOST = 1e3  # times: larger ratios of computation and shares of bandwidth are not looked for
MICRO = 1e-6
NODE_GBITS = (400.0, 100.0)  # networks of a node with 8 A100: Amazon's p4d, Google's a2-highgpu. A DGX has 1,600
BITS_PER_BYTE = 8


@dataclass(frozen=True, slots=True)
class CaseOnGpus:
    """An experiment and its number of GPUs."""

    case: PlanCase
    gpus: int


CasePair = tuple[CaseOnGpus, CaseOnGpus]  # baseline, experiment


def gpu_speed_ratio(pair: CasePair, cluster: Cluster, compute_ratio: float = 1.0) -> float:
    """Return images per GPU-second, experiment over baseline, if the experiment computes so many times as fast.

    A compute ratio is a ratio of MFU, of the peaks of two precisions, or their product.
    """
    rates = []
    for side, faster in zip(pair, (1.0, compute_ratio), strict=True):
        step = plan_step(replace(side.case, compute=side.case.compute.speed_up(faster)), cluster, side.gpus)
        rates.append(step.images_per_second / step.gpus)
    return rates[1] / rates[0]


def with_released_losses(pair: CasePair) -> CasePair:
    """Return the pair with the losses of the released code."""
    baseline, experiment = (replace(side, case=with_released_loss(side.case)) for side in pair)
    return baseline, experiment


def required_compute_ratio(pair: CasePair, cluster: Cluster, target: float) -> float | None:
    """Return the compute ratio that gives a ratio of speeds; None if communication keeps it below at any."""
    from scipy.optimize import brentq  # a tenth of a second of the start of `--help`

    def shortfall(compute_ratio: float) -> float:
        return target - gpu_speed_ratio(pair, cluster, compute_ratio)

    if shortfall(MOST) > 0:
        return None
    return float(brentq(shortfall, 1 / MOST, MOST, rtol=1e-9))


def required_bandwidth(pair: CasePair, cluster: Cluster, target: float) -> float | None:
    """Return the bandwidth between nodes, bytes per second, that gives a ratio of speeds at one MFU; None if none does.

    Slower networks cost the experiment with more bytes per image and second more. The largest such bandwidth counts.
    """
    from scipy.optimize import brentq

    steps = [MOST ** (step / 64) for step in range(65)]  # shares 1 to 1 / MOST
    for above, below in pairwise(steps):
        ratios = [gpu_speed_ratio(pair, with_network(cluster, 1 / one)) - target for one in (above, below)]
        if ratios[0] <= 0 <= ratios[1]:
            share = brentq(lambda one: gpu_speed_ratio(pair, with_network(cluster, one)) - target, 1 / below, 1 / above)
            return float(share) * cluster.links.network_bytes_per_second
    return None


def with_network(cluster: Cluster, bandwidth_share: float, latency_factor: float = 1.0) -> Cluster:
    """Return the cluster with a share of its bandwidth, and a multiple of its latency, between nodes."""
    bandwidth = cluster.links.network_bytes_per_second * bandwidth_share
    latency = cluster.links.network_latency_seconds * latency_factor
    links = replace(cluster.links, network_bytes_per_second=bandwidth, network_latency_seconds=latency)
    return replace(cluster, links=links)


@dataclass(frozen=True, slots=True)
class CommunicationFactor:
    """The factors on one network."""

    node_gbits: float  # Gbit/s of a node's data sheet, of which `LINK_SHARE` is reached
    own: float  # with our loss
    released: float  # with the released loss


def communication_factor(pair: CasePair, cluster: Cluster) -> float:
    """Return the ratio of GPU-seconds, baseline over experiment, over that without communication.

    The products of a contrastive loss with the captions of other GPUs count as communication.
    """
    shares = []
    for side in pair:
        step = plan_step(side.case, cluster, side.gpus)
        alone = step.seconds - step.exposed_seconds - step.extra_negatives_seconds
        shares.append(step.seconds / alone)
    return shares[0] / shares[1]


def communication_factors(pair: CasePair, cluster: Cluster) -> list[CommunicationFactor]:
    """Return the factors on the cluster's network, and on the slower ones of `NODE_GBITS`."""
    found, links = list[CommunicationFactor](), cluster.links
    per_gbit = LINK_SHARE * 1e9 / BITS_PER_BYTE / links.gpus_per_node  # bytes per second and GPU
    planned = links.network_bytes_per_second / per_gbit
    for gbits in (planned, *(one for one in NODE_GBITS if one < planned)):
        network = replace(cluster, links=replace(links, network_bytes_per_second=gbits * per_gbit))
        own, released = (communication_factor(one, network) for one in (pair, with_released_losses(pair)))
        found.append(CommunicationFactor(gbits, own, released))
    return found


def factor_range(factors: Sequence[CommunicationFactor]) -> tuple[float, float]:
    """Return the smallest and the largest of the factors."""
    values = [value for one in factors for value in (one.own, one.released)]
    return min(values), max(values)


def bf16_over_fp16_speed() -> float:
    """Return bf16's speed over fp16's in LAION's trainings of H/14 on equal GPUs with equal batches."""
    rates = {run.source: run.midpoint for run in PUBLISHED_RUNS if run.model == "H/14"}
    return rates["LAION 2022, bf16"] / rates["LAION 2022, fp16"]


def solution_table(pair: CasePair, cluster: Cluster, target: float) -> Table:
    """List the compute ratios that give a ratio of speeds with the released losses, by network between nodes."""
    gain, released, rows = bf16_over_fp16_speed(), with_released_losses(pair), list[dict[str, Any]]()
    for latency in LATENCY_FACTORS:
        for share in BANDWIDTH_SHARES:
            network = with_network(cluster, share, latency)
            needed = required_compute_ratio(released, network, target)
            rows.append(
                {
                    "network, GB/s": network.links.network_bytes_per_second / GB,
                    "latency, us": network.links.network_latency_seconds / MICRO,
                    "ratio at equal MFU": gpu_speed_ratio(released, network),
                    "with our loss": gpu_speed_ratio(pair, network),
                    "MFU ratio needed": needed,
                    f"illustration: the same with a precision {gain:.2f} times as fast": needed and needed / gain,
                }
            )
    alone = required_bandwidth(released, cluster, target)
    baseline, experiment = pair
    given = "at no bandwidth" if alone is None else f"at {alone / GB:.3g} GB/s"
    note = (
        f"{experiment.case.name} on {experiment.gpus} GPUs over {baseline.case.name} on {baseline.gpus} GPUs: "
        f"{target:g} times the images per GPU-second. FLOPs and losses are those of the released code.\n"
        f"The network alone, at equal MFU and the first latency, gives the ratio {given}. "
        "'-': communication prevents the ratio at any MFU.\n"
        f"The last column is an illustration and no prediction: {gain:.2f} is bf16 over fp16 in LAION's trainings of "
        "H/14, with other software, GPUs and batches, and the data sheets give both precisions one peak.\n"
        f"{NO_STEP_COST}"
    )
    return Table.of_figures(SOLUTION_TITLE, rows, note)


def mfu_ratio_table(measured: Iterable[tuple[str, float, str]]) -> Table:
    """List ratios of MFU between published trainings of one model, and `measured` ones: name, ratio and source."""
    runs = [run for run in PUBLISHED_RUNS if run.batch is not None]
    by_model = defaultdict[tuple[str, GpuSpec], list[PublishedRun]](list)
    for run in runs:
        by_model[run.model, run.device].append(run)
    groups = [(f"{model}, fastest over slowest", several) for (model, _), several in by_model.items()]
    groups += [(f"{run.model} on {run.gpus} GPUs, equal images per GPU", [run]) for run in runs if run.low < run.high]
    rows = [_mfu_difference_row(name, several) for name, several in groups]
    rows += [
        {"difference": name, "MFU ratio": ratio, "network, GB/s": None, "from": source}
        for name, ratio, source in measured
    ]
    note = "MFU without the modelled communication. network: of the training; '-': one GPU."
    return Table.of_figures(
        POINTS_TITLE, [row for row in rows if row["MFU ratio"] > 1 or row["network, GB/s"] is None], note
    )


def _mfu_difference_row(name: str, runs: Sequence[PublishedRun]) -> dict[str, Any]:
    ends = [replace(run, low=rate, high=rate) for run in runs for rate in (run.low, run.high)]
    utilisations = [fit_utilisation(run, NCCL, OVERLAP) for run in ends]
    network = runs[0].device.network_bytes_per_second
    return {
        "difference": name,
        "MFU ratio": max(utilisations) / min(utilisations),
        "network, GB/s": None if network is None else LINK_SHARE * network / GB,
        "from": ", ".join(dict.fromkeys(run.source for run in runs)),
    }
