"""A method: all that the project knows of a way to pre-train an image tower, in one object. No torch here.

Everything else (tower, images, their order and augmentation, step, optimizer) is equal for all methods.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.experiment.fields import Settings
from bench.interfaces.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.data.targets import Captions
    from bench.experiment.config import Experiment
    from losses.collectives import ProcessGroupLike
    from models.image_tower import ImageTower

METHOD_TEXTS = ("name", "title", "targets_description", "loss_description")  # that every method has
VocabularyField = Literal["synset_vocabulary", "subword_vocabulary"]


class Method:
    """A way to pre-train an image tower: the model around it, its targets, and its loss.

    A subclass describes the method in its attributes. Built-in methods import PyTorch only inside their functions, so
    that the command line, ladders, plans and pages start without it; an extension that imports it at the top makes them
    slower. Nothing may touch CUDA during the import, because loader workers fork from a process that has imported it.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # its name in its paper
    targets_description: ClassVar[str]
    loss_description: ClassVar[str]

    # Whether the loss compares all images of a batch with one another: it then needs two, and no micro-batches.
    compares_batch: ClassVar[bool] = False
    # Matrix products of batch x captions x width in a step of such a loss, its backward included.
    loss_products: ClassVar[int] = 0
    # All-reduces of one pair of fp32 numbers per caption in a step over several processes.
    normaliser_all_reduces: ClassVar[int] = 0
    # Whether the authors' loss gathers the features of images, too (`gather=both`); ours gathers captions alone.
    gathers_images_as_released: ClassVar[bool] = False
    # What the method is in an `explain` ladder: a pair of towers, or a classifier. None: no ladder leads from or to it,
    # for the reason `no_ladder_reason`.
    ladder_role: ClassVar[Literal["pair", "classifier"] | None] = None
    no_ladder_reason: ClassVar[str] = "has no ladder_role"
    # Field of the experiment with the vocabulary that captions are read by; None: the method reads no captions.
    vocabulary_field: ClassVar[VocabularyField | None] = None
    has_labels: ClassVar[bool] = False  # whether captions become labels of that vocabulary
    label_fields: ClassVar[tuple[str, ...]] = ()  # fields of the experiment that only this method's labels depend on
    has_teacher: ClassVar[bool] = False  # whether it learns from the experiment's teacher
    # Fields of experiments that the method declares, each with a default and metadata (bench/experiment/fields.py).
    settings: ClassVar[type[Settings]] = Settings

    def own_settings(self, experiment: "Experiment") -> Any:
        """Return the experiment's values of the fields of `settings`."""
        return self.settings(**experiment.own)

    def config_errors(self, experiment: "Experiment") -> Iterator[str]:
        """Yield the reasons why an experiment cannot be run, in addition to those checked for all methods."""
        if experiment.image.pooling == "both":
            yield f"pooling must be own or mean, for {self.name} has one loss, got both"

    def reads_captions(self, experiment: "Experiment") -> bool:
        """Return whether a training reads captions."""
        return self.vocabulary_field is not None

    def embeds_captions(self, experiment: "Experiment") -> bool:
        """Return whether a text tower embeds captions in each step."""
        return False

    def dense_label_bytes(self, experiment: "Experiment") -> int:
        """Return the bytes of an image's labels where they are dense rows; 0 where labels take little memory."""
        return 0

    def label_files(self, experiment: "Experiment", shards: Sequence[Path]) -> list[Path]:
        """Return the files of labels that a training on shards reads; ValueError or OSError if they do not fit."""
        return []

    def check_inputs(self, experiment: "Experiment") -> None:
        """Raise ValueError or OSError if a file or package that every run needs is missing."""

    def row_labels(self, experiment: "Experiment") -> tuple[str, ...]:
        """Return the WordNet synsets of the classifier's rows, which can initialise a transfer; else none."""
        return ()

    def build_model(self, tower: "ImageTower", experiment: "Experiment") -> "nn.Module":
        """Return the model around a tower, in which the tower is the attribute `tower`."""
        raise NotImplementedError

    def targets(self, experiment: "Experiment") -> "Callable[[Captions], Any]":
        """Return a function that turns captions into a `Target` of `bench.data.targets`, one item per caption.

        It is called once for all captions of the pack, and batch by batch in the loader workers of shards. The
        experiment's text padding is never "auto". Where `embeds_captions`, the target has `Tokens`.
        """
        raise NotImplementedError

    def loss(self, model: Any, images: "Tensor", target: Any, group: "ProcessGroupLike") -> "Tensor":
        """Return a scalar in nats, averaged over the batch's images, on the device and attached to the graph.

        It is called in timed windows and must not synchronise with the device. No shape may depend on the values of
        tensors, because FLOPs are counted on the device `meta`. It runs under autocast. The group is that of the
        processes that share the batch: losses that compare the batch all-gather features themselves; the others average
        over the local batch, which has as many images on every process.
        """
        raise NotImplementedError

    def after_update(self, model: Any) -> None:
        """Change the model after the update of each step, also of a skipped one; no gradient is recorded."""


_METHODS = Registry[Method]("method", "bench.methods:METHODS")


def methods() -> Mapping[str, Method]:
    """Return the methods by name, in the order of pages."""
    return _METHODS


def add_method(method: Method, origin: str) -> None:
    """Add a method; ValueError if it is none, is incomplete, or has a name that is taken."""
    if not isinstance(method, Method):
        raise ValueError(f"{origin} adds the method {method!r}: it must be an instance of a subclass of Method")  # noqa: TRY004
    if missing := [name for name in METHOD_TEXTS if not isinstance(getattr(method, name, None), str)]:
        raise ValueError(
            f"{origin} adds a method {type(method).__name__} without {', '.join(missing)}: set them to texts"
        )
    if not method.name.isidentifier():
        raise ValueError(f"{origin} adds the method {method.name!r}: its name must be letters, digits and underscores")
    if method.has_labels and method.vocabulary_field is None:
        raise ValueError(f"{origin} adds the method {method.name} with labels of no vocabulary: set vocabulary_field")
    _METHODS.add(method.name, method, origin)


def is_built_in(name: str) -> bool:
    """Return whether a method is of this project."""
    return _METHODS.is_built_in(name)


def find_method(name: str) -> Method | None:
    """Return the method of a name; None if there is none."""
    return methods().get(name)


def get_method(name: str) -> Method:
    """Return the method of a name; ValueError lists the names that there are."""
    if (found := find_method(name)) is None:
        raise ValueError(f"no method named {name!r} (there are {', '.join(methods())})")
    return found
