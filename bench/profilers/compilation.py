"""What torch.compile did so far in this process, by dynamo's own counts."""

GRAPHS = "graphs"


def compilation() -> dict[str, float]:
    """Count graphs, the breaks between them, and the seconds of tracing and compiling; all 0 before the first.

    Source: `torch._dynamo.utils`, `counters` and `calculate_time_spent`; the seconds are those of
    `entire_frame_compile` and `entire_backward_compile` together.
    """
    from torch._dynamo.utils import calculate_time_spent, counters

    return {
        GRAPHS: float(counters["stats"]["unique_graphs"]),
        "graph breaks": float(sum(counters["graph_break"].values())),
        "seconds": calculate_time_spent()["total_wall_time"],
    }
