"""The charts of accuracy against what it cost: images seen, device seconds, energy."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.accuracy.curves import accuracy_chart
from reports.accuracy.pareto import IMAGES, Price, front_sentence, left_out, prices
from reports.accuracy.score_tables import points_table
from reports.accuracy.scores import Scored, points, tasks
from reports.render.document import Panel
from reports.render.frames import Comparison


@dataclass(frozen=True, slots=True)
class Lead:
    """The one chart that stands beside the answer."""

    title: str
    words: str
    chart: Markup


def charts(
    comparison: Comparison, answers: Sequence[Scored], protocol: str, trained: Sequence[str]
) -> dict[str, object]:
    """Draw every task against every price that was measured, and say what has none."""
    device, energy = prices(comparison)

    def panels(price: Price) -> list[Panel]:
        if not any(price.an_image is None or subject in price.an_image for subject in trained):
            return []
        return [Panel(task, accuracy_chart(comparison, answers, task, protocol, price)) for task in tasks(answers)]

    return {
        "by_images": panels(IMAGES),
        "by_seconds": panels(device),
        "by_energy": panels(energy),
        "untimed": left_out(comparison, trained, device),
        "no_energy": left_out(comparison, trained, energy),
        "points": points_table(comparison, answers, protocol, device, energy),
        "lead": _lead(comparison, answers, protocol, device),
    }


def _lead(comparison: Comparison, answers: Sequence[Scored], protocol: str, device: Price) -> Lead | None:
    """Draw the first task, of which the answer tells."""
    task = tasks(answers)[0]
    found = points(answers, task, protocol)
    if not any(not point.is_reference and device.of(point) is not None for point in found):
        return None
    chart = accuracy_chart(comparison, answers, task, protocol, device, "lead")
    return Lead(f"{task}: accuracy against device seconds", front_sentence(comparison, found, device), chart)
