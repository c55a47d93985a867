"""Counters of compilation."""

from torch._dynamo.utils import counters

from bench.profilers.counters import count_compiled_graphs


def compilation_counters() -> dict[str, int]:
    """Return the numbers of compiled graphs and of breaks between them, in this process."""
    return {
        "graphs": count_compiled_graphs(),
        "graph breaks": sum(counters["graph_break"].values()),
    }
