"""The counted and published ratios beside a ladder."""

import pytest

from bench.experiment.experiments import get_experiment
from bench.features.explain.verb import expected_ratios

PUBLISHED = ("catlip-vit-b16-datacomp", "clip-vit-b16-datacomp")


def test_flop_ratio_of_the_published_pair() -> None:
    """Source: forward GFLOPs of open_clip's docs/model_profile.csv (35.13 and 5.96), samplers of apple/corenet."""
    lines = {line.what: line.ratio for line in expected_ratios(*map(get_experiment, PUBLISHED))}
    assert lines["FLOPs alone, one image size"] == pytest.approx(1.17, abs=0.005)
    assert lines["FLOPs alone, the recipes' image sizes"] == pytest.approx(1.45, abs=0.005)
    assert lines["published"] == pytest.approx(2.7, abs=0.005)
    huge = (get_experiment(name.replace("b16", "h16")) for name in PUBLISHED)
    assert expected_ratios(*huge)[-1].ratio == pytest.approx(2.78, abs=0.005)
