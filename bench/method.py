"""A method: all that the project knows of a way to pre-train an image tower, in one object. No torch here.

Everything else (tower, images, their order and augmentation, step, optimizer) is equal for all methods.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.config import Experiment
    from bench.data.targets import Captions
    from losses.collectives import ProcessGroupLike
    from models.image_tower import ImageTower

BUILT_IN = "bench.methods"  # the package whose `METHODS` are the built-in methods
VocabularyField = Literal["synset_vocabulary", "subword_vocabulary"]


class Method:
    """A way to pre-train an image tower: the model around it, its targets, and its loss.

    A subclass describes the method in its attributes, and imports PyTorch only inside its functions: the command line,
    ladders, plans and pages know the method without PyTorch.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # its name in its paper
    reads: ClassVar[str]  # its targets, in words
    minimises: ClassVar[str]  # its loss, in words

    # Whether the loss compares all images of a batch with one another: it then needs two, and no micro-batches.
    compares_batch: ClassVar[bool] = False
    # Matrix products of batch x captions x width in a step of such a loss, its backward included.
    loss_products: ClassVar[int] = 0
    # All-reduces of one pair of fp32 numbers per caption in a step over several processes.
    normaliser_all_reduces: ClassVar[int] = 0
    # Whether the authors' loss gathers the features of images, too (`gather=both`); ours gathers captions alone.
    gathers_images_as_released: ClassVar[bool] = False
    # What a ladder between two methods replaces: a pair of towers, or a classifier; None: it leads from or to no such
    # method, for the reason `why_no_ladder`.
    objective: ClassVar[Literal["pair", "classifier"] | None] = None
    why_no_ladder: ClassVar[str] = "says nothing of a ladder"
    # Field of the experiment with the vocabulary that captions are read by; None: the method reads no captions.
    vocabulary_field: ClassVar[VocabularyField | None] = None
    has_labels: ClassVar[bool] = False  # whether captions become labels of that vocabulary
    label_fields: ClassVar[tuple[str, ...]] = ()  # fields of the experiment that only this method's labels depend on
    has_teacher: ClassVar[bool] = False  # whether it learns from the experiment's teacher

    def errors(self, experiment: "Experiment") -> Iterator[str]:
        """Yield the reasons why an experiment of this method cannot be run, beside those that hold for all methods."""
        if experiment.pooling == "both":
            yield f"pooling must be own or mean, for {self.name} has one loss, got both"

    def reads_captions(self, _: "Experiment") -> bool:
        """Return whether a training reads captions."""
        return self.vocabulary_field is not None

    def embeds_captions(self, _: "Experiment") -> bool:
        """Return whether a text tower embeds captions in each step."""
        return False

    def dense_label_bytes(self, _: "Experiment") -> int:
        """Return the bytes of an image's labels where they are dense rows; 0 where labels take little memory."""
        return 0

    def label_files(self, _: "Experiment", _shards: Sequence[Path]) -> list[Path]:
        """Return the files of labels that a training on shards reads; ValueError or OSError if they do not fit."""
        return []

    def require_inputs(self, _: "Experiment") -> None:
        """Raise ValueError or OSError for a file or package that every run would refuse."""

    def row_labels(self, _: "Experiment") -> tuple[str, ...]:
        """Return the WordNet synsets of the classifier's rows, which can initialise a transfer; else none."""
        return ()

    def build_model(self, tower: "ImageTower", experiment: "Experiment") -> "nn.Module":
        """Return the model around a tower, in which the tower is the attribute `tower`."""
        raise NotImplementedError

    def targets(self, experiment: "Experiment") -> "Callable[[Captions], Any]":
        """Return a function that turns captions into targets. It is also called in loader workers."""
        raise NotImplementedError

    def loss(self, model: Any, images: "Tensor", target: Any, group: "ProcessGroupLike") -> "Tensor":
        """Return a scalar in nats, averaged over the batch's images, on the device and attached to the graph.

        It is called in timed windows and copies nothing from the device. No shape depends on values, because FLOPs are
        counted on tensors without values (torch's device `meta`). The group is that of the processes that share
        the batch: losses that compare the batch all-gather features themselves; the others average over the local
        batch, which has as many images on every process.
        """
        raise NotImplementedError

    def after_update(self, model: Any) -> None:
        """Change the model after each update of its weights."""


_origins: dict[str, str] = {}  # of methods that were added


@cache
def methods() -> dict[str, Method]:
    """Return the methods by name, in the order of pages."""
    return {method.name: method for method in importlib.import_module(BUILT_IN).METHODS}


def add_method(method: Method, origin: str) -> None:
    """Add a method; ValueError if its name is taken, or is no name."""
    if not method.name.isidentifier():
        raise ValueError(f"{origin} adds the method {method.name!r}: its name must be letters, digits and underscores")
    if method.name in methods():
        other = _origins.get(method.name, "this program")
        raise ValueError(f"{origin} adds the method {method.name}, which {other} has already: give it another name")
    methods()[method.name], _origins[method.name] = method, origin


def is_built_in(name: str) -> bool:
    """Return whether a method is of this project."""
    return name in methods() and name not in _origins


def find_method(name: str) -> Method | None:
    """Return the method of a name; None if there is none."""
    return methods().get(name)


def get_method(name: str) -> Method:
    """Return the method of a name; ValueError lists the names that there are."""
    if (found := find_method(name)) is None:
        raise ValueError(f"no method named {name!r} (there are {', '.join(methods())})")
    return found
