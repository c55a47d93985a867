"""A method: all that the project knows of a way to pre-train an image tower, in one object. No torch here.

Everything else (tower, images, their order and augmentation, step, optimizer) is equal for all methods.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from msgspec import UNSET, UnsetType

from bench.experiment.config import Experiment, get_declared_method_fields, look_up
from bench.experiment.fields import SettingsGroup
from bench.interfaces.optimizer import OPTIMIZERS, ParameterGroup, weight_decay_groups
from bench.interfaces.registry import Named, Registry
from bench.interfaces.schedule import SCHEDULES
from bench.records.method_text import MethodDescription
from bench.records.record import Record

if TYPE_CHECKING:
    from torch import Tensor, nn

    from losses.collectives import ProcessGroupLike
    from models.image_tower import ImageTower

MIN_COMPARED_IMAGES = 2  # of a loss that compares an image with another one
VocabularyField = Literal["synset_vocabulary", "subword_vocabulary"]


@dataclass(frozen=True, slots=True)
class LossCommunication:
    """What a loss computes and sends on several GPUs, besides the gradients and weights that all methods send."""

    # Matrix products of batch x captions x width in a step, its backward included.
    loss_products: int = 0
    normaliser_all_reduces: int = 0  # all-reduces of one pair of fp32 numbers per caption in a step


@dataclass(frozen=True, slots=True)
class NoTarget:
    """The target of a method that uses images alone; see `Target` of `bench.data.targets`."""

    captions: None = None

    def select(self, _rows: Any) -> "NoTarget":
        return self

    def with_captions(self, _captions: Any) -> "NoTarget":
        return self

    def to(self, _device: Any) -> "NoTarget":
        return self


class Method(Named):
    """A way to pre-train an image tower: the model around it, its targets, and its loss.

    A subclass needs `name`, `build_model` and `loss`. Built-in methods import PyTorch only inside their functions, so
    that commands that need no model start quickly; an extension that imports it at the top makes them slower. Nothing
    may touch CUDA during the import, because loader workers fork from a process that has imported it.
    """

    name: str  # letters, digits and underscores
    title: ClassVar[str] = ""  # its name in its paper; empty: `name`
    targets_description: ClassVar[str] = ""  # empty: the first line of the docstring
    loss_description: ClassVar[str] = ""  # empty: the first line of the docstring

    # Whether the loss compares all images of a batch with one another: it then needs two, and no micro-batches.
    compares_batch: ClassVar[bool] = False
    # What the method is in an `explain` ladder: a pair of towers, or a classifier. None: no ladder leads from or to it,
    # for the reason `no_ladder_reason`.
    ladder_role: ClassVar[Literal["pair", "classifier"] | None] = None
    no_ladder_reason: ClassVar[str] = "has no ladder_role"
    # Field of the experiment with the vocabulary that captions are read by; None: the method reads no captions.
    vocabulary_field: ClassVar[VocabularyField | None] = None
    # What several GPUs compute and send besides gradients and weights; None: `plan` shows its prediction as unknown.
    communication: ClassVar[LossCommunication | None] = None
    # Number of independently augmented views of each image; above 1, `images` of the loss have the shape
    # (batch, views, channels, height, width), and all figures per image count an image once.
    views: ClassVar[int] = 1
    # Whether `loss` has two more arguments, passed by name. `rows`, int64 of shape (batch,) on the device, are the rows
    # of the samples in the data set; `step` is the number of the batch, from 0.
    reads_rows_and_step: ClassVar[bool] = False
    reads_patch_tokens: ClassVar[bool] = False  # whether the loss calls `tower.tokens`
    # The attribute of the model whose forwards are the phase "text forward", a text tower or a decoder. A model without
    # it has no such phase.
    text_module: ClassVar[str] = "text"
    # Whether text_padding=packed_rows puts several captions into a row.
    packs_captions: ClassVar[bool] = True
    accepts_mean_for_classifier: ClassVar[bool] = False
    has_teacher: ClassVar[bool] = False  # whether it learns from the experiment's teacher
    # Fields of experiments that the method declares, each with a default and metadata (bench/experiment/fields.py).
    settings: ClassVar[type[SettingsGroup]] = SettingsGroup

    @abstractmethod
    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "nn.Module":
        """Return the model around a tower, in which the tower is the attribute `tower`."""

    @abstractmethod
    def loss(
        self, model: Any, images: "Tensor", target: Any, group: "ProcessGroupLike"
    ) -> "Tensor":
        """Return a scalar in nats, averaged over the batch's images, on the device and attached to the graph.

        It is called in timed windows and must not synchronise with the device. No shape may depend on the values of
        tensors, because FLOPs are counted on the device `meta`. It runs under autocast. The processes of the group
        share the batch: a loss that compares the batch all-gathers features itself, any other averages over the local
        batch, which has as many images on every process.
        """

    def make_target_function(self, experiment: Experiment) -> Callable[[Any], Any]:
        """Return a function that turns `CaptionsWithRows` into a `Target` (both of `bench.data.targets`).

        The target has one item per caption.
        By default the target is `NoTarget`. The function is called once for all captions of the pack, and batch by
        batch in the loader workers of shards. The experiment's text padding is never "auto". Where a
        text model runs on the captions, the target has `CaptionTokens`.
        """
        return lambda _: NoTarget()

    def parameter_groups(self, model: Any) -> list[ParameterGroup]:
        """Return the trained parameters of a model, each in one group of the optimizer.

        By default matrices have weight decay, and vectors and scalars have none. A group may set "weight_decay", and
        "lr_scale", a factor of its learning rate.
        """
        return weight_decay_groups(model.parameters())

    def after_update(self, model: Any) -> None:
        """Change the model after the update of each step, also of a skipped one; no gradient is recorded."""

    def own_settings(self, experiment: Experiment) -> Any:
        """Return the experiment's values of the fields of `settings`."""
        return self.settings(**experiment.own)

    def config_errors(self, experiment: Experiment) -> Iterator[str]:
        """Yield the reasons why an experiment cannot be run, in addition to those checked for all methods."""
        return iter(())

    def reads_captions(self, experiment: Experiment) -> bool:
        """Return whether a training reads captions."""
        return self.vocabulary_field is not None

    def runs_text_model_on_captions(self, experiment: Experiment) -> bool:
        """Return whether a text tower or decoder computes the captions' tokens in each step."""
        return False

    def text_inputs(self, model: Any, images: "Tensor", captions: Any) -> tuple[Any, ...]:
        """Return the arguments of `text_module` for images and their `CaptionTokens`, with which FLOPs are counted."""
        return tuple(captions.text_tower_inputs)

    def require_inputs(self, experiment: Experiment) -> None:
        """Raise ValueError or OSError if a file or package that every run needs is missing."""

    def text_for_pages(self) -> MethodDescription:
        """Return what pages say of the method."""
        first_line = (type(self).__doc__ or "").strip().partition("\n")[0]
        return MethodDescription(
            title=self.title or self.name,
            targets=self.targets_description or first_line,
            loss=self.loss_description or first_line,
        )


class LabelMethod(Method):
    """A method whose captions become labels of the vocabulary in `vocabulary_field`."""

    def row_synsets(self, experiment: Experiment) -> tuple[str, ...]:
        """Return the WordNet synsets of the classifier's rows, which can initialise a transfer; else none."""
        return ()


METHODS = Registry[Method]("method", Method, "bench.methods:METHODS")  # in the order of pages


def get_method(name: str) -> Method:
    """Return the method of a name; ValueError lists the names that exist."""
    return look_up(name, METHODS, "method")


def method_text_if_from_extension(experiment: Experiment | None) -> MethodDescription | UnsetType:
    """Return what a record says of its method if an extension added it; UNSET for built-in methods."""
    method = METHODS.get(experiment.method) if experiment else None
    if method is None or METHODS.is_built_in(method.name):
        return UNSET
    return method.text_for_pages()


def find_method_text(method: str, records: Iterable[Record]) -> MethodDescription | None:
    """Return what pages say of a method, from the loaded method or from a record that describes it; None: unknown."""
    if method in METHODS:
        return METHODS[method].text_for_pages()
    for record in records:
        described = record.experiment
        if described and described.method == method and record.method is not UNSET:
            return record.method
    return None


def reads_captions(experiment: Experiment) -> bool:
    """Return whether a training reads captions; False for a method that is not loaded."""
    method = METHODS.get(experiment.method)
    return method is not None and method.reads_captions(experiment)


def require_method_accepts(experiment: Experiment) -> None:
    """Raise ValueError naming the field if the experiment's method is not loaded, or refuses the experiment.

    The same for an optimizer or a schedule that is not loaded.
    """
    method = get_method(experiment.method)
    look_up(experiment.optimizer.optimizer, OPTIMIZERS, "optimizer")
    look_up(experiment.training.schedule, SCHEDULES, "schedule")
    reason = next(_method_errors(experiment, method), None)
    if reason is not None:
        raise ValueError(f"{experiment.name}: {reason}")
    method.own_settings(experiment)  # raises for a value of the wrong kind


def _method_errors(experiment: Experiment, method: Method) -> Iterator[str]:
    """Yield the reasons why a method cannot run an experiment, each naming the field."""
    if method.compares_batch:
        largest = max(experiment.image.all_image_sizes)
        if experiment.device_batch_size_at(largest) < MIN_COMPARED_IMAGES:
            yield f"batch_size must be 2 or more at {largest} px, for {method.name} needs a negative"
        if experiment.training.micro_batches > 1:
            yield f"micro_batches must be 1, for {method.name} compares all images of a batch"
    elif experiment.training.micro_batches > 1 and method.runs_text_model_on_captions(experiment):
        yield f"micro_batches must be 1, for {method.name} reads the captions of a batch sorted by length"
    if experiment.image.pooling == "mean_for_classifier" and not method.accepts_mean_for_classifier:
        yield f"pooling must be tower or mean, for {method.name} has one loss, got mean_for_classifier"
    if method.views > 1 and experiment.image.input_embedding_grid_channels is not None:
        yield f"input_embedding_grid_channels must be None, for {method.name} needs augmented views of images"
    for name in experiment.own:
        if name not in get_declared_method_fields(method.name):
            yield f"{method.name} declares no field {name}"
    yield from method.config_errors(experiment)
