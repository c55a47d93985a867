"""What a device lets one read: the seam between the sampler and the libraries that know devices."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Figure = Callable[[], float]
Span = Callable[[], Figure]  # called where the block begins; what it returns is called where the block ends


@dataclass(frozen=True, slots=True)
class Reader:
    """Figures by name with unit: gauges show a moment, spans the time between two, `missing` says why others do not."""

    gauges: Mapping[str, Figure] = field(default_factory=dict)
    spans: Mapping[str, Span] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def rising(counter: Figure, scale: float = 1.0) -> Span:
    """Return a span whose figure is by how much a counter that only grows rose, a second, times `scale`."""

    def begin() -> Figure:
        first, start = counter(), time.perf_counter()
        return lambda: max(0.0, scale * (counter() - first) / (time.perf_counter() - start))

    return begin
