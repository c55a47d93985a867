"""Claims of papers: their published values, their sources, and the FLOPs that are counted for them."""

from pathlib import Path

import pytest

from bench.data.caption_lengths import web_caption_length_quantiles
from bench.experiment.config import change
from bench.experiment.experiments import get_experiment
from bench.experiment.settings import renamed_with_settings
from bench.features.claims.claims import CLAIMS, PUBLISHED_FIGURES, ReleasedFlopRatio
from bench.features.claims.section import describe_published_catlip_speed
from tests.released_flops import forward_flops_as_released

ROOT = Path(__file__).parents[3]
NUM_WEB_CAPTIONS = 10_000  # whose lengths stand for those of web captions
RATIOS = [*(ratio for claim in CLAIMS.values() for ratio in claim.flop_ratios)]
RATIOS += [figure.flop_ratio for figure in PUBLISHED_FIGURES if figure.flop_ratio is not None]


def rows_of_page() -> dict[str, list[str]]:
    """The tables of docs/claims.md, by the first cell of their rows."""
    lines = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {row[0].strip("`"): row for row in rows}


def test_published_values_are_those_of_the_tables_of_the_page() -> None:
    rows = rows_of_page()
    for claim in CLAIMS.values():
        _, value, unit, source, where = rows[claim.name]
        assert float(value) == claim.published
        assert unit == "times CLIP's GPU hours for equal images"
        assert source == claim.source
        assert claim.where.startswith(where)
        assert str(claim.published) in f"{claim.quote} {claim.where}"
    for figure in PUBLISHED_FIGURES:
        assert rows[figure.title] == [figure.title, figure.published, figure.source]


def is_slow(ratio: ReleasedFlopRatio) -> bool:
    return "h16" in ratio.baseline or ratio.experiment in ("flip-vit-l14", "clipa-vit-b16")


@pytest.mark.parametrize(
    "ratio",
    [
        pytest.param(
            ratio,
            id=f"{ratio.experiment}: {ratio.description}",
            marks=pytest.mark.exhaustive if is_slow(ratio) else [],
        )
        for ratio in RATIOS
    ],
)
def test_counted_ratios_are_those_of_the_counter(ratio: ReleasedFlopRatio) -> None:
    lengths = [] if ratio.is_padded else web_caption_length_quantiles(NUM_WEB_CAPTIONS)
    flops = []
    for name in (ratio.baseline, ratio.experiment):
        experiment = renamed_with_settings(get_experiment(name), ratio.settings)
        counted = (
            experiment if ratio.has_recipe_sizes else change(experiment, random_image_sizes=())
        )
        flops.append(forward_flops_as_released(counted, lengths))
    assert round(flops[0] / flops[1], 6) == ratio.value


def test_statement_on_speed_stands_in_readme_and_on_its_page() -> None:
    statement = describe_published_catlip_speed()
    predicted = statement[statement.index("FLOPs predict") :]
    for page in ("README.md", "docs/claims.md"):
        assert predicted in " ".join(
            (ROOT / page).read_text(encoding="utf-8").replace("\n> ", " ").split()
        )
