"""Methods differ in what is put around the tower, what they read and what they minimise, and in nothing else."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace as with_fields

from bench.data.pack import PackImages
from bench.data.stream import Batch, eval_transform
from bench.data.targets import Captions, Features
from bench.experiment.experiments import COMPARED, EXPERIMENTS, TEXT_SHARE_AT_VIT_B16
from bench.interfaces.method import methods
from bench.labels.subwords import SubwordIds, tokenizer
from bench.labels.vocabulary import read_vocabulary
from bench.measure.costs import META, build_on_meta, count_flops, meta_images, text_forward_flops
from bench.method_parts.synsets import label_log_odds
from bench.profilers.counters import count_forward_flops
from bench.records.record import Flops
from bench.towers.head_file import save_tower
from bench.towers.provenance import Provenance
from bench.towers.tower_from import load_trained_tower
from bench.train.build import (
    TrainState,
    build_train_state,
    build_untrained_tower,
    load_data,
    take_steps_at_full_learning_rate,
)
from losses.contrastive import contrastive_loss
from models.heads import DualEncoder, Student, TokenClassifier
from models.image_tower import PIXEL_CHANNELS, PIXEL_STATISTICS
from tests.small import small

CPU = torch.device("cpu")


def assembled(method: str, results: Path, **changes: object) -> TrainState:
    return build_train_state(load_data(small(method, **changes), CPU, results))


def test_the_initial_tower_is_equal_to_the_last_bit(results: Path) -> None:
    states = [assembled(method, results).tower.state_dict() for method in [*methods()]]
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in states[0])


def test_initial_tower_is_independent_of_earlier_builds(results: Path) -> None:
    first = assembled("clip", results).model.state_dict()
    torch.rand(7)
    again = assembled("clip", results).model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_tower_text_and_head_draw_different_numbers(results: Path) -> None:
    run = assembled("catlip", results)
    first = [value.flatten()[:64] for value in (run.tower.trunk.conv1.weight, run.model.head.weight)]
    assert abs(torch.corrcoef(torch.stack(first).detach())[0, 1]) < 0.5


def test_other_seed_gives_another_tower(results: Path) -> None:
    towers = [assembled("catlip", results, seed=seed).tower.state_dict() for seed in (0, 1)]
    assert not torch.equal(towers[0]["trunk.conv1.weight"], towers[1]["trunk.conv1.weight"])


@pytest.mark.parametrize("method", [*methods()])
def test_few_steps_lower_the_loss_and_update_every_parameter(method: str, results: Path) -> None:
    run = assembled(method, results, learning_rate=3e-3)
    before = {name: value.clone() for name, value in run.model.named_parameters() if value.requires_grad}
    batch = run.stream.batch(0)
    losses = [float(run.step(batch, 3e-3)) for _ in range(12)]
    assert losses[-1] < losses[0]
    after = dict(run.model.named_parameters())
    assert not [name for name, value in before.items() if torch.equal(value, after[name])]
    assert {*after} - {*before} == {name for name in after if name.startswith("teacher.")}


@pytest.mark.parametrize("method", [*methods()])
def test_repeated_run_gives_bit_equal_losses(method: str, results: Path) -> None:
    runs = [torch.stack(take_steps_at_full_learning_rate(assembled(method, results), range(2))) for _ in range(2)]
    assert torch.equal(*runs)


def test_superclass_counts_images_once_and_weights_rare_tokens_more(results: Path) -> None:
    run = assembled("superclass", results)
    batches = [run.stream.batch(k) for k in range(3)]
    for batch in batches:
        run.step.forward(batch)
    assert isinstance(run.model, TokenClassifier)
    counts = run.model.counts
    assert counts.images_seen == 3 * 16
    counted = sum(torch.bincount(batch.target.columns, minlength=len(counts.images_with_token)) for batch in batches)
    assert torch.equal(counts.images_with_token, counted.double())
    assert (counts.images_with_token <= counts.images_seen).all()


def test_superclass_ignores_start_end_and_padding_tokens() -> None:
    experiment = small("superclass", subword_vocabulary="all")
    target = methods()["superclass"].targets(experiment)(Captions.from_texts(["a dog!", ""]))
    assert sorted(target.columns.tolist()) == sorted(set(tokenizer().encode("a dog!")))
    assert target.starts.tolist() == [0, len(target.columns), len(target.columns)]


@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_stored_text_features_give_the_text_towers_loss(method: str, results: Path) -> None:
    """The same loss, and gradients of image tower and projection, from the same features; no text tower is there."""
    whole, stored = assembled(method, results), assembled(method, results, text_features="stored")
    assert {*dict(whole.model.named_parameters())} - {*dict(stored.model.named_parameters())} == {
        name for name, _ in whole.model.named_parameters() if name.startswith("text.")
    }
    stored.model.load_state_dict(whole.model.state_dict(), strict=False)
    batch = whole.stream.batch(0)
    read = batch.target
    with torch.no_grad():
        made = whole.model.text(*read.inputs)
    losses = whole.step.forward(batch), stored.step.forward(Batch(batch.images, Features(made)))
    torch.testing.assert_close(*losses)
    kept = [
        [one for name, one in run.model.named_parameters() if not name.startswith("text.")] for run in (whole, stored)
    ]
    gradients = [torch.autograd.grad(loss, of) for loss, of in zip(losses, kept, strict=True)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_caption_has_the_same_stored_features_in_every_batch(results: Path) -> None:
    run = assembled("clip", results, text_features="stored", subset="random:24")
    found: dict[int, torch.Tensor] = {}
    for k in range(4):
        batch = run.stream.batch(k)
        for row, features in zip(run.stream.order.batch_rows(k).tolist(), batch.target.values, strict=True):
            assert torch.equal(found.setdefault(row, features), features)
    assert len({tuple(features.tolist()) for features in found.values()}) == len(found) <= 24
    losses = [float(run.step(run.stream.batch(0), 3e-3)) for _ in range(12)]
    assert losses[-1] < losses[0]


def test_simulated_global_batch_is_in_the_loss_and_the_flops(results: Path) -> None:
    """Loss of two alike processes; four products of the images with so many captions more."""
    one, two = (assembled("clip", results, simulated_global_batch=size) for size in (None, 32))
    batch = one.stream.batch(0)
    image, text = one.model(batch.images, *batch.target.inputs)
    alike = contrastive_loss(image.repeat(2, 1), text.repeat(2, 1), one.model.log_scale.exp())
    torch.testing.assert_close(two.step.forward(batch), alike)
    flops = [count_flops(run.stream.experiment, [run.stream.target(0)]) for run in (one, two)]
    product = 2 * 16 * 16 * image.shape[1]
    assert flops[1].forward - flops[0].forward == product
    assert flops[1].step - flops[0].step == 4 * product


def test_classifier_loss_ignores_the_simulated_group(results: Path) -> None:
    runs = [assembled("catlip", results, simulated_global_batch=size) for size in (None, 64)]
    assert torch.equal(*(run.step.forward(run.stream.batch(0)) for run in runs))
    both = assembled("superclip", results, simulated_global_batch=64)
    assert both.step(both.stream.batch(0), 1e-3).isfinite()
    assert both.model.counts.images_seen == 16


def test_recomputed_activations_are_counted(results: Path) -> None:
    """The blocks' forward once more, but for the product at the end of each, which no backward asks for."""
    plain, again = (
        count_flops(run.stream.experiment, [run.stream.target(0)])
        for run in (assembled("clip", results, activation_checkpointing=on) for on in (False, True))
    )
    assert again.forward == plain.forward
    assert 0.6 * plain.forward < again.step - plain.step < 0.7 * plain.forward


def test_superclip_loss_is_the_sum_of_clip_and_superclass(results: Path) -> None:
    """Value and the tower's gradient, from the same weights."""
    both, clip, superclass = (assembled(method, results) for method in ("superclip", "clip", "superclass"))
    clip.model.load_state_dict(both.model.state_dict(), strict=False)
    superclass.model.load_state_dict(both.model.state_dict(), strict=False)
    losses = [run.step.forward(run.stream.batch(0)) for run in (both, clip, superclass)]
    torch.testing.assert_close(losses[0], losses[1] + losses[2])
    gradients = [
        torch.autograd.grad(loss, list(run.tower.parameters()))
        for loss, run in zip(losses, (both, clip, superclass), strict=True)
    ]
    for whole, one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, one + other, rtol=1e-4, atol=1e-6)


def test_student_approaches_its_unchanged_teacher(results: Path, tmp_path: Path) -> None:
    """The teacher is a tower file, of another size than the student."""
    experiment = small("catlip", image_size=36, seed=3)
    tower = build_untrained_tower(experiment)
    path = tmp_path / "teacher.safetensors"
    save_tower(tower.state_dict(), path, Provenance(experiment=experiment, images=0, budgets=()).to_facts())
    run = assembled("distill", results, teacher=str(path), ema_decay=0.9)
    assert isinstance(run.model, Student)
    teacher = run.model.teacher.state_dict()
    assert all(torch.equal(teacher[name], value) for name, value in tower.state_dict().items())
    batch = run.stream.batch(0)
    losses = [float(run.step(batch, 3e-3)) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0] < 1
    assert all(torch.equal(run.model.teacher.state_dict()[name], value) for name, value in tower.state_dict().items())
    assert run.step.ema is not None
    assert run.step.ema.teacher.trunk.conv1.weight is run.model.teacher.trunk.conv1.weight  # is not kept twice


def test_head_of_catlip_starts_as_its_recipe_says(results: Path) -> None:
    """By default as torch draws a linear layer, or as CoreNet does; the tower is the same."""
    plain, released = (assembled("catlip", results, head_initialisation=how) for how in ("uniform", "trunc_normal"))
    assert plain.model.head.weight.abs().max() <= 128**-0.5
    assert plain.model.head.bias.abs().max() > 0
    assert released.model.head.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert released.model.head.weight.mean().abs() < 2e-4
    assert not released.model.head.bias.any()
    pairs = zip(plain.tower.parameters(), released.tower.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_head_at_the_log_odds_predicts_how_often_each_label_occurs(results: Path) -> None:
    """The weights are those of the plain head; the first loss is that of the frequencies, 14 nats in place of 501."""
    plain, prior = (assembled("catlip", results, head_initialisation=how) for how in ("uniform", "log_odds"))
    assert torch.equal(plain.model.head.weight, prior.model.head.weight)
    vocabulary = read_vocabulary("pack-synsets")
    assert vocabulary.captions is not None
    shares = [(label.count + 0.5) / (vocabulary.captions + 1) for label in vocabulary.labels]
    torch.testing.assert_close(prior.model.head.bias.sigmoid(), torch.tensor(shares))
    losses = [run.step.forward(run.stream.batch(0)).item() for run in (plain, prior)]
    assert losses[0] > 20 * losses[1]
    rest = label_log_odds(vocabulary, len(vocabulary.labels) + 1)[-1]
    assert rest.sigmoid() == pytest.approx(0.5 / (vocabulary.captions + 1))
    with pytest.raises(ValueError, match="needs the number of captions"):
        label_log_odds(with_fields(vocabulary, captions=None), 1000)


def test_tower_without_normalisation_reads_pixels_from_0_to_1(
    results: Path, images: PackImages, tmp_path: Path
) -> None:
    """In training, and where the trained tower is scored."""
    seen: list[torch.Tensor] = []
    run = assembled("catlip", results, pixel_normalisation="none")
    path = tmp_path / "tower.safetensors"
    provenance = Provenance(experiment=run.stream.experiment, images=0, budgets=())
    save_tower(run.tower.state_dict(), path, provenance.to_facts())
    scored, _ = load_trained_tower(path)
    given = [run.stream.batch(0).images, eval_transform(images.pixels[:20], 48)]
    for tower, shown in zip((run.tower, scored), given, strict=True):
        tower.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        tower(shown)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in PIXEL_STATISTICS["openai"])
    for pixels, shown in zip(seen, given, strict=True):
        torch.testing.assert_close(pixels, shown * std + mean)
        assert (-1e-6 < pixels.min() < 0.2, 0.8 < pixels.max() < 1 + 1e-6) == (True, True)


def test_products_of_clips_loss_follow_the_experiment(results: Path) -> None:
    for method in ("clip", "superclip"):
        losses = []
        for precision in ("fp32", "autocast"):
            run = assembled(method, results, contrastive_precision=precision, precision="bf16")
            losses.append(run.step.forward(run.stream.batch(0)).detach())
        assert 0 < (losses[0] - losses[1]).abs() < 2**-8 * losses[0]


@pytest.mark.parametrize("changes", [{}, {"simulated_global_batch": 48}, {"text_features": "stored"}])
def test_features_that_clips_loss_gathers_follow_the_experiment(changes: dict[str, object], results: Path) -> None:
    """Loss and gradients are equal; with both modalities no function of ours has a hand-written gradient."""
    for method in ("clip", "superclip") if "text_features" not in changes else ("clip",):
        found = []
        for gather in ("captions", "both"):
            run = assembled(method, results, gather=gather, **changes)
            assert run.model.loss_gathers_images == (gather == "both")
            loss = run.step.forward(run.stream.batch(0))
            run.step.backward(loss)
            found.append([loss.detach(), *(one.grad for one in run.model.parameters() if one.grad is not None)])
        for captions, both in zip(*found, strict=True):
            torch.testing.assert_close(both, captions, rtol=1e-3, atol=1e-5)


def test_unknown_teacher_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tower file 'nowhere\.safetensors' for a teacher"):
        assembled("distill", results, teacher="nowhere.safetensors")
    with pytest.raises(ValueError, match="no tower named 'catlip-bench-tin'"):
        assembled("distill", results, teacher="catlip-bench-tin")
    empty = tmp_path / "empty.safetensors"
    empty.write_bytes(b"")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        assembled("distill", results, teacher=str(empty))


@pytest.mark.parametrize("method", [*methods()])
def test_any_method_trains_on_half_of_the_patches(method: str, results: Path) -> None:
    whole, half = (assembled(method, results, patch_drop=drop) for drop in (0.0, 0.5))
    states = [run.tower.state_dict() for run in (whole, half)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    batch = half.stream.batch(0)
    assert half.step(batch, 1e-3).isfinite()
    half.tower.load_state_dict(states[0])
    scored = [run.tower.eval()(batch.images) for run in (whole, half)]
    assert torch.equal(scored[0], scored[1])


def test_half_of_the_patches_halves_the_tower_flops(flops_of: Callable[[str], Flops]) -> None:
    whole, half = (flops_of(row).image_forward for row in ("clip", "flip"))
    assert 0.5 < half / whole < 0.6  # the class token, and the patches' embedding


@pytest.mark.parametrize("method", [name for name, one in methods().items() if not one.compares_batch])
def test_accumulated_gradient_equals_the_full_batch_gradient(method: str, results: Path) -> None:
    """But for SuperClass, whose weights are of the images counted so far: there it is that of the parts."""
    whole, parts = (assembled(method, results, accumulation=count, clip_norm=None) for count in (1, 4))
    batch = whole.stream.batch(0)
    loss = whole.step.forward(batch)
    whole.step.backward(loss)
    losses = []
    for part in batch.micro_batches(4):
        assert len(part.images) == 4
        losses.append(parts.step.forward(part))
        parts.step.backward(losses[-1])
    if method == "superclass":
        assert whole.model.counts.images_seen == parts.model.counts.images_seen == 16
        assert torch.equal(whole.model.counts.images_with_token, parts.model.counts.images_with_token)
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
        methods()["clip"].after_update(model)
        assert model.log_scale.item() == pytest.approx(bounded)


def test_a_head_smaller_than_its_vocabulary_is_refused(results: Path) -> None:
    with pytest.raises(ValueError, match="head_rows is 5, its vocabulary has 723 labels"):
        assembled("catlip", results, head_rows=5)


@pytest.fixture(scope="module")
def flops_of(results: Path) -> Callable[[str], Flops]:
    """Return what counts the FLOPs of a tiny experiment's step, once."""

    @cache
    def count(row: str) -> Flops:
        experiment = EXPERIMENTS[f"{row}-tiny"]
        return count_flops(experiment, [load_data(experiment, CPU, results).target(0)])

    return count


@pytest.mark.parametrize("method", COMPARED)
def test_heads_are_small_relative_to_the_tower(method: str, flops_of: Callable[[str], Flops]) -> None:
    flops = flops_of(method)
    assert 0 < flops.forward - flops.image_forward - flops.text_forward < 0.075 * flops.image_forward


@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_tiny_text_tower_has_the_flop_share_of_vit_b32(method: str, flops_of: Callable[[str], Flops]) -> None:
    """A tiny comparison with a full text tower would show a spectacular and meaningless speed-up."""
    flops = flops_of(method)
    assert 0.12 <= flops.text_forward / (flops.text_forward + flops.image_forward) <= 0.18


def test_text_tower_of_vit_b16_has_the_flop_share_that_pages_name(results: Path) -> None:
    experiment = EXPERIMENTS["clip-vit-b16"]
    tower, model = build_on_meta(experiment)
    captions = load_data(experiment, CPU, results).target(0).to(META)
    images = meta_images(experiment.training.batch_size, experiment.image.image_size, PIXEL_CHANNELS)
    text, image = text_forward_flops(model, captions), count_forward_flops(tower, images)
    assert text / (text + image) == pytest.approx(TEXT_SHARE_AT_VIT_B16, abs=0.005)


def test_subword_ids_keep_their_order_with_the_end_token_last() -> None:
    for vocabulary in ("all", "pack-subwords"):
        ids = SubwordIds(vocabulary)
        start, end = ids.start_and_end
        assert (start, end) == (ids.size - 2, ids.size - 1)
    assert SubwordIds("all").encode(["a dog"]) == [tokenizer().encode("a dog")]
