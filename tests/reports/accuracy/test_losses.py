"""The charts of training losses."""

from msgspec.structs import replace

from bench.measure.comparison_records import select_comparison_records
from reports.page import render_comparison_page
from reports.render.loss_curves import TRUNK, collect_loss_curves
from tests.reports.conftest import training_record


def test_training_without_a_trunk_has_a_chart_of_at_most_120_points() -> None:
    """As with a cosine schedule, where each budget is a run from the start."""
    record = training_record("clip-tiny", 0)
    measured = replace(record.measured, trunk_losses=(), cooldown_losses=((1.5,) * 600,))
    records = [replace(record, measured=measured)]
    (curve,) = collect_loss_curves(select_comparison_records("x", records), "clip-tiny")
    assert len(curve.points) == 120
    assert curve.part != TRUNK
    assert curve.trunk_point is None
    text = render_comparison_page("x", records)
    assert "The cool-down to 80,000 images begins at 1.5 and ends at 1.5." in text


def test_cooldown_branches_off_the_trunk_of_its_own_training() -> None:
    """Trainings of one seed and of several lengths are on one page."""
    long = training_record("clip-tiny", 0)
    short = replace(long, measured=replace(long.measured, trunk_losses=(9.0,) * 500))
    for records in ([long, short], [short, long]):
        curves = collect_loss_curves(select_comparison_records("x", records), "clip-tiny")
        cooldowns = [curve for curve in curves if curve.part != TRUNK]
        starts = {curve.trunk_point.loss == 9.0 for curve in cooldowns if curve.trunk_point}
        assert starts == {True, False}
