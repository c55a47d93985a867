"""The factor of communication in a ratio of speeds, from our loss to the released one. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.features.plan.collectives import LINK_SHARE
from bench.features.plan.inverse import CasePair, with_released_losses
from bench.features.plan.model import Cluster, plan_step

NODE_GBITS = (400.0, 100.0)  # networks of a node with 8 A100: Amazon's p4d, Google's a2-highgpu. A DGX has 1,600
BITS_PER_BYTE = 8


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
