"""Statistics of torch.compile in this process, from dynamo's counters."""

GRAPHS = "graphs"


def compilation_counts() -> dict[str, float]:
    """Return the number of graphs and of graph breaks, and the seconds of tracing and compiling so far.

    Source: `torch._dynamo.utils`, `counters` and `calculate_time_spent`; the seconds are the sum of
    `entire_frame_compile` and `entire_backward_compile`.
    """
    from torch._dynamo.utils import calculate_time_spent, counters

    return {
        GRAPHS: float(counters["stats"]["unique_graphs"]),
        "graph breaks": float(sum(counters["graph_break"].values())),
        "seconds": calculate_time_spent()["total_wall_time"],
    }
