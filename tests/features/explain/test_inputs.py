"""Labels and lengths of captions on a ladder: labels change after the objective, lengths are those of all."""

from bench.experiment.config import Experiment, differing_fields
from bench.experiment.experiments import EXPERIMENTS
from bench.features.explain.ladder import HEAD, PADDING, TEXT_TOWER
from bench.features.explain.verb import plan_ladder


def chain(
    first: Experiment, baseline: Experiment, *chosen: str
) -> tuple[tuple[str, ...], list[Experiment], dict[str, str]]:
    ladder, configurations = plan_ladder(first, baseline, chosen, on_gpu=False)
    return ladder.causes, configurations, ladder.left_out


def test_released_labels_are_stages_after_the_objective() -> None:
    """Before it CLIP reads no labels: there a change of them would cost nothing."""
    clip, catlip = EXPERIMENTS["clip-tiny"], EXPERIMENTS["catlip-tiny"]
    steps, configurations, _ = chain(catlip, clip, "dense_labels", "nltk_labels", "augmentation")
    assert steps == ("augmentation", PADDING, TEXT_TOWER, HEAD, "dense_labels", "nltk_labels")
    labels = [(one.targets.label_format, one.targets.labels) for one in configurations]
    assert labels == [
        *[("sparse", "computed")] * 4,
        ("dense", "nltk"),
        ("sparse", "nltk"),
        ("sparse", "computed"),
    ]
    assert [one.input.augmentation for one in configurations] == ["range", *["none"] * 6]
    assert not {*differing_fields([configurations[-1], catlip])} - {
        "warmup_steps",
        "windows",
        "steps_per_window",
    }
    steps, configurations, _ = chain(catlip, catlip, "label_format=dense", "nltk_labels")
    assert steps == ("dense_labels", "nltk_labels")
    assert [one.method for one in configurations] == ["catlip"] * 3


def test_other_methods_have_no_stage_of_labels() -> None:
    superclass = EXPERIMENTS["superclass-tiny"]
    steps, _, left_out = chain(superclass, EXPERIMENTS["clip-tiny"], "dense_labels")
    assert steps == ("pooling", PADDING, TEXT_TOWER, HEAD)
    assert left_out["dense_labels"] == "superclass does not read label_format"
