"""Methods differ in what is put around the tower, what they read and what they minimise, and in nothing else."""

import math
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace as with_fields

from bench.data.stream import Batch
from bench.data.targets import PrecomputedFeatures
from bench.experiment.config import change
from bench.interfaces.method import METHODS
from bench.labels.vocabulary import read_vocabulary
from bench.measure.costs import (
    count_mean_step_flops,
)
from bench.method_parts.synsets import compute_label_log_odds
from bench.train.build import (
    TrainRun,
    build_train_run,
    build_untrained_tower,
    open_batch_stream,
)
from losses.contrastive import contrastive_loss
from models.heads import DualEncoder, TokenClassifier
from tests.small import TWO_BLOCKS, few_images, small
from tests.tensors import differing

CPU = torch.device("cpu")


def assembled(method: str, results: Path, **changes: object) -> TrainRun:
    return build_train_run(
        open_batch_stream(few_images(method, **TWO_BLOCKS | changes), CPU, results)
    )


@pytest.mark.parametrize("method", [*METHODS])
def test_few_steps_lower_the_loss_and_update_every_parameter(method: str, results: Path) -> None:
    """All methods begin with the same tower, and a repeated run has the same losses, to the last bit."""
    run, repeated = (assembled(method, results, learning_rate=3e-3) for _ in range(2))
    tower = build_untrained_tower(few_images("clip", **TWO_BLOCKS)).state_dict()
    assert not differing(run.tower.state_dict(), tower)
    before = {
        name: value.clone() for name, value in run.model.named_parameters() if value.requires_grad
    }
    batch = run.stream.batch(0)
    losses = [float(run.step(batch, 3e-3)) for _ in range(6)]
    assert [float(repeated.step(batch, 3e-3)) for _ in range(2)] == losses[:2]
    assert losses[-1] < losses[0]
    after = dict(run.model.named_parameters())
    assert not [name for name, value in before.items() if torch.equal(value, after[name])]
    assert {*after} - {*before} == {name for name in after if name.startswith("teacher.")}


def test_superclass_counts_images_once_and_weights_rare_tokens_more(results: Path) -> None:
    run = assembled("superclass", results)
    batches = [run.stream.batch(k) for k in range(3)]
    for batch in batches:
        run.step.forward(batch)
    assert isinstance(run.model, TokenClassifier)
    counts = run.model.counts
    assert counts.images_seen == 3 * 16
    counted = sum(
        torch.bincount(batch.target.columns, minlength=len(counts.images_with_token))
        for batch in batches
    )
    assert torch.equal(counts.images_with_token, counted.double())
    assert (counts.images_with_token <= counts.images_seen).all()


def test_stored_text_features_give_the_text_towers_loss(results: Path) -> None:
    """The same loss, and gradients of image tower and projection, from the same features; no text tower is there."""
    whole, stored = assembled("clip", results), assembled("clip", results, text_features="random")
    assert {*dict(whole.model.named_parameters())} - {*dict(stored.model.named_parameters())} == {
        name for name, _ in whole.model.named_parameters() if name.startswith("text.")
    }
    stored.model.load_state_dict(whole.model.state_dict(), strict=False)
    batch = whole.stream.batch(0)
    read = batch.target
    with torch.no_grad():
        made = whole.model.text(*read.text_tower_inputs)
    losses = (
        whole.step.forward(batch),
        stored.step.forward(Batch(batch.images, PrecomputedFeatures(made))),
    )
    torch.testing.assert_close(*losses)
    kept = [
        [one for name, one in run.model.named_parameters() if not name.startswith("text.")]
        for run in (whole, stored)
    ]
    gradients = [torch.autograd.grad(loss, of) for loss, of in zip(losses, kept, strict=True)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_simulated_global_batch_is_in_the_loss_and_the_flops(results: Path) -> None:
    """Loss of two alike processes; four products of the images with so many captions more."""
    one, two = (assembled("clip", results, simulated_global_batch=size) for size in (None, 32))
    batch = one.stream.batch(0)
    image, text = one.model(batch.images, *batch.target.text_tower_inputs)
    alike = contrastive_loss(image.repeat(2, 1), text.repeat(2, 1), one.model.log_scale.exp())
    torch.testing.assert_close(two.step.forward(batch), alike)
    flops = [
        count_mean_step_flops(run.stream.experiment, [run.stream.target(0)]) for run in (one, two)
    ]
    product = 2 * 16 * 16 * image.shape[1]
    assert flops[1].forward - flops[0].forward == product
    assert flops[1].step - flops[0].step == 4 * product


def test_recomputed_activations_are_counted(results: Path) -> None:
    """The blocks' forward once more, but for the product at the end of each, which no backward asks for."""
    experiment = few_images("clip", text_padding="max_length")
    target = open_batch_stream(experiment, CPU, results).target(0)
    plain, again = (
        count_mean_step_flops(change(experiment, activation_checkpointing=on), [target])
        for on in (False, True)
    )
    assert again.forward == plain.forward
    assert 0.6 * plain.forward < again.step - plain.step < 0.7 * plain.forward


def test_head_at_the_log_odds_predicts_how_often_each_label_occurs(results: Path) -> None:
    """The weights are those of the plain head; the first loss is that of the frequencies, 14 nats in place of 501."""
    plain, prior = (
        assembled("catlip", results, synset_head_initialisation=how)
        for how in ("uniform", "log_odds")
    )
    assert torch.equal(plain.model.head.weight, prior.model.head.weight)
    vocabulary = read_vocabulary("shipped-synsets")
    assert vocabulary.captions is not None
    shares = [(label.captions + 0.5) / (vocabulary.captions + 1) for label in vocabulary.labels]
    torch.testing.assert_close(prior.model.head.bias.sigmoid(), torch.tensor(shares))
    losses = [run.step.forward(run.stream.batch(0)).item() for run in (plain, prior)]
    assert losses[0] > 20 * losses[1]
    rest = compute_label_log_odds(vocabulary, len(vocabulary.labels) + 1)[-1]
    assert rest.sigmoid() == pytest.approx(0.5 / (vocabulary.captions + 1))
    with pytest.raises(ValueError, match="needs the number of captions"):
        compute_label_log_odds(with_fields(vocabulary, captions=None), 1000)


@pytest.mark.parametrize(
    "method",
    [
        name
        for name, method in METHODS.items()
        if not method.runs_text_model_on_captions(small(name))
    ],
)
def test_accumulated_gradient_equals_the_full_batch_gradient(method: str, results: Path) -> None:
    """But for SuperClass, whose weights are of the images counted so far: there it is that of the parts."""
    whole, parts = (
        assembled(method, results, micro_batches=count, clip_norm=None) for count in (1, 4)
    )
    batch = whole.stream.batch(0)
    loss = whole.step.forward(batch)
    whole.step.backward(loss)
    losses = []
    for part in batch.split_into_micro_batches(4):
        assert len(part.images) == 4
        losses.append(parts.step.forward(part))
        parts.step.backward(losses[-1])
    if method == "superclass":
        assert whole.model.counts.images_seen == parts.model.counts.images_seen == 16
        assert torch.equal(
            whole.model.counts.images_with_token, parts.model.counts.images_with_token
        )
        return
    torch.testing.assert_close(torch.stack(losses).mean(), loss)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6)


def test_logit_scale_is_clamped(results: Path) -> None:
    model = assembled("clip", results).model
    assert isinstance(model, DualEncoder)
    for value, bounded in ((9.0, math.log(100)), (-3.0, 0.0)):
        with torch.no_grad():
            model.log_scale.fill_(value)
        METHODS["clip"].after_update(model)
        assert model.log_scale.item() == pytest.approx(bounded)


def test_a_head_smaller_than_its_vocabulary_is_refused(results: Path) -> None:
    with pytest.raises(ValueError, match="padded_head_rows is 5, its vocabulary has 723 labels"):
        assembled("catlip", results, padded_head_rows=5)
