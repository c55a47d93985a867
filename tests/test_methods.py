"""Methods differ in what is put around the tower, what they read and what they minimise, and in nothing else."""

import math
from pathlib import Path

import pytest
import torch

from bench.config import METHOD_NAMES
from bench.data.pack import Pictures
from bench.data.pack_stream import PackStream
from bench.data.subwords import SubwordIds, tokenizer
from bench.data.targets import Captions
from bench.experiments import EXPERIMENTS
from bench.methods import METHODS, clamp_scale
from bench.profilers.flops import count_flops
from bench.record import Flops
from bench.run import Assembled, assemble, load_data, take_steps
from models.heads import Contrastive, TokenClassifier
from tests.small import small

CPU = torch.device("cpu")


def assembled(method: str, results: Path, **changes: object) -> Assembled:
    return assemble(load_data(small(method, **changes), CPU, results))


def test_the_initial_tower_is_equal_to_the_last_bit(results: Path) -> None:
    states = [assembled(method, results).tower.state_dict() for method in METHOD_NAMES]
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in states[0])


def test_what_was_built_before_does_not_matter(results: Path) -> None:
    first = assembled("clip", results).model.state_dict()
    torch.rand(7)
    again = assembled("clip", results).model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_tower_text_and_head_draw_different_numbers(results: Path) -> None:
    run = assembled("catlip", results)
    first = [value.flatten()[:64] for value in (run.tower.trunk.conv1.weight, run.model.head.weight)]
    assert abs(torch.corrcoef(torch.stack(first).detach())[0, 1]) < 0.5


def test_another_seed_is_another_tower(results: Path) -> None:
    towers = [assembled("catlip", results, seed=seed).tower.state_dict() for seed in (0, 1)]
    assert not torch.equal(towers[0]["trunk.conv1.weight"], towers[1]["trunk.conv1.weight"])


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_few_steps_lower_the_loss_and_move_every_parameter(method: str, results: Path) -> None:
    run = assembled(method, results, learning_rate=3e-3)
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    batch = run.stream.batch(0)
    losses = [float(run.step(batch, 3e-3)) for _ in range(12)]
    assert losses[-1] < losses[0]
    assert not [name for name, value in run.model.named_parameters() if torch.equal(value, before[name])]


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_the_same_run_gives_the_same_losses_to_the_last_bit(method: str, results: Path) -> None:
    runs = [torch.stack(take_steps(assembled(method, results), range(5))) for _ in range(2)]
    assert torch.equal(*runs)


def test_superclass_counts_images_once_and_weighs_rare_tokens_more(results: Path) -> None:
    run = assembled("superclass", results)
    batches = [run.stream.batch(k) for k in range(3)]
    for batch in batches:
        run.step.forward(batch)
    assert isinstance(run.model, TokenClassifier)
    assert run.model.images_seen == 3 * 16
    counted = sum(torch.bincount(batch.target.columns, minlength=len(run.model.images_with_token)) for batch in batches)
    assert torch.equal(run.model.images_with_token, counted.double())
    assert (run.model.images_with_token <= run.model.images_seen).all()


def test_superclass_reads_neither_start_nor_end_nor_padding() -> None:
    experiment = small("superclass", subword_vocabulary="all")
    target = METHODS["superclass"].targets(experiment)(Captions.of(["a dog!", ""]))
    assert sorted(target.columns.tolist()) == sorted(set(tokenizer().encode("a dog!")))
    assert target.starts.tolist() == [0, len(target.columns), len(target.columns)]


def test_the_scale_stays_in_its_bounds(results: Path) -> None:
    model = assembled("clip", results).model
    assert isinstance(model, Contrastive)
    for value, bounded in ((9.0, math.log(100)), (-3.0, 0.0)):
        with torch.no_grad():
            model.log_scale.fill_(value)
        clamp_scale(model)
        assert model.log_scale.item() == pytest.approx(bounded)


def test_a_head_smaller_than_its_vocabulary_is_refused(results: Path) -> None:
    with pytest.raises(ValueError, match="head_rows is 5, its vocabulary has 723 labels"):
        assembled("catlip", results, head_rows=5)


def flops_of(method: str, pictures: Pictures) -> Flops:
    experiment = EXPERIMENTS[f"{method}-tiny"]
    stream = PackStream(experiment, pictures, METHODS[method].targets(experiment), CPU)
    return count_flops(experiment, [stream.target(k) for k in range(4)])


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_heads_are_small_beside_the_tower(method: str, pictures: Pictures) -> None:
    flops = flops_of(method, pictures)
    assert 0 < flops.forward - flops.image_forward - flops.text_forward < 0.06 * flops.image_forward


@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_the_text_tower_takes_the_share_it_takes_at_a_useful_size(method: str, pictures: Pictures) -> None:
    """A tiny comparison with a full text tower would show a spectacular and meaningless speed-up."""
    flops = flops_of(method, pictures)
    assert 0.12 <= flops.text_forward / (flops.text_forward + flops.image_forward) <= 0.18


def test_subwords_keep_their_order_so_that_the_end_token_is_the_largest() -> None:
    for vocabulary in ("all", "pack-subwords"):
        ids = SubwordIds(vocabulary)
        start, end = ids.start_and_end
        assert (start, end) == (ids.size - 2, ids.size - 1)
    assert SubwordIds("all").encode(["a dog"]) == [tokenizer().encode("a dog")]
