"""Cap's loss is the formula, written as a loop; padding and the order of the captions do not change it."""

import math

import pytest
import torch
from torch import Tensor

import losses.caption
from bench.data.targets import CaptionsWithRows, CaptionTokens
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.method import METHODS, require_method_accepts
from bench.measure.costs import (
    build_tower_and_model_on_meta,
    count_mean_step_flops,
    make_meta_captions,
)
from bench.profilers.counters import TensorByteCounter
from models.text_decoder import Captioner, DecoderBlock, TextDecoder

WIDTH, CONTEXT, VOCABULARY = 128, 12, 40


def random_captions(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, CONTEXT - 2, (count,), generator=generator).tolist()
    return [
        torch.randint(1, VOCABULARY - 2, (length,), generator=generator).tolist()
        for length in lengths
    ]


def to_tokens(captions: list[list[int]], padding: str) -> CaptionTokens:
    tokens = CaptionTokens.from_ids_without_start_and_end(
        captions, VOCABULARY - 2, VOCABULARY - 1, CONTEXT, padding
    )
    return tokens.select(torch.arange(len(captions)))


def build_decoder(parallel_caption_share: float = 0.0) -> TextDecoder:
    torch.manual_seed(0)
    decoder = TextDecoder(WIDTH, 2, VOCABULARY, CONTEXT, parallel_caption_share).double()
    torch.nn.init.normal_(decoder.head.weight)  # it begins at 0
    return decoder


def loss_of(decoder: TextDecoder, patches: Tensor, tokens: CaptionTokens) -> Tensor:
    return decoder(patches, *tokens.text_tower_inputs[:3])


def attend_in_a_loop(attention: torch.nn.Module, x: Tensor, attended: Tensor) -> Tensor:
    """Attention of one token `x` to the rows of `attended`, head by head."""
    key, value = attention.key_value(attended).chunk(2, dim=-1)
    query = attention.query(x)
    width = WIDTH // attention.num_heads
    heads = []
    for head in range(attention.num_heads):
        part = slice(head * width, (head + 1) * width)
        weights = (key[:, part] @ query[part] / math.sqrt(width)).softmax(0)
        heads.append(weights @ value[:, part])
    return attention.out(torch.cat(heads))


def block_in_a_loop(block: DecoderBlock, x: Tensor, patches: Tensor, causal: bool) -> Tensor:
    rows = []
    normed = block.ln_1(x)
    for k, row in enumerate(x):
        visible = normed[: k + 1] if causal else normed
        hidden = row + attend_in_a_loop(block.self_attention, normed[k], visible)
        hidden = hidden + attend_in_a_loop(block.patch_attention, block.ln_2(hidden), patches)
        rows.append(hidden + block.mlp(block.ln_3(hidden)))
    return torch.stack(rows)


def loss_in_a_loop(decoder: TextDecoder, patches: Tensor, captions: list[list[int]]) -> Tensor:
    losses = []
    for row, caption in enumerate(captions):
        share = decoder.parallel_caption_share
        parallel = math.floor((row + 1) * share) > math.floor(row * share)
        sequence = [VOCABULARY - 2, *caption, VOCABULARY - 1]
        inputs = sequence[:-1]
        if parallel:
            inputs = [decoder.mask_id] * (CONTEXT - 1)
        x = torch.stack(
            [
                decoder.embedding.weight[token] + decoder.positions[k]
                for k, token in enumerate(inputs)
            ]
        )
        for block in decoder.blocks:
            x = block_in_a_loop(block, x, patches[row], causal=not parallel)
        logits = decoder.head(decoder.ln_final(x))
        losses.append(
            torch.stack(
                [-logits[k].log_softmax(0)[token] for k, token in enumerate(sequence[1:])]
            ).mean()
        )
    return torch.stack(losses).mean()


@pytest.mark.parametrize("parallel_caption_share", [0.0, 0.75, 1.0])
def test_loss_equals_the_formula_in_a_loop(
    parallel_caption_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses.caption, "TOKENS_AT_ONCE", 7)
    decoder = build_decoder(parallel_caption_share)
    captions = random_captions(8)
    patches = torch.randn(8, 5, WIDTH, dtype=torch.float64, requires_grad=True)
    loss = loss_of(decoder, patches, to_tokens(captions, "max_length"))
    leaves = (patches, decoder.head.weight, decoder.head.bias, decoder.embedding.weight)
    gradients = torch.autograd.grad(loss, leaves)
    expected = loss_in_a_loop(decoder, patches, captions)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    for gradient, expected_gradient in zip(
        gradients, torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-12)


def test_logits_of_all_tokens_are_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses.caption, "TOKENS_AT_ONCE", 32)
    width, vocabulary, tokens = 8, 1000, 640
    leaves = [
        torch.randn(64, 10, width, requires_grad=True),
        torch.randn(vocabulary, width, requires_grad=True),
        torch.randn(vocabulary, requires_grad=True),
    ]
    ids = torch.zeros(64, 10, dtype=torch.int64)
    with TensorByteCounter(torch.device("cpu"), []) as counted:
        loss = losses.caption.summed_caption_loss(*leaves, ids, torch.full((64,), 10))
        torch.autograd.grad(loss, leaves)
    assert counted.peak_bytes / 4 < tokens * vocabulary / 3


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_loss_in_autocast_has_the_precision_of_its_products(
    dtype: torch.dtype, precision: float
) -> None:
    """Of 5,000 tokens, most have a small probability."""
    gradients = []
    for is_enabled in (False, True):
        torch.manual_seed(0)
        leaves = [
            torch.randn(4, 30, 16, requires_grad=True),
            torch.randn(5000, 16, requires_grad=True),
            torch.randn(5000, requires_grad=True),
        ]
        with torch.autocast("cpu", dtype, enabled=is_enabled):
            loss = losses.caption.summed_caption_loss(
                *leaves, torch.zeros(4, 30, dtype=torch.int64), torch.tensor([30, 2, 9, 1])
            )
        gradients.append([loss, *torch.autograd.grad(loss, leaves)])
    for exact, rounded in zip(*gradients, strict=True):
        assert rounded.dtype == torch.float32
        assert 0 < (rounded - exact).norm() / exact.norm() < 3 * precision


@pytest.mark.parametrize("padding", ["length_groups", "longest"])
def test_padding_does_not_change_the_loss(padding: str) -> None:
    decoder = build_decoder()
    captions = random_captions(16)
    patches = torch.randn(16, 5, WIDTH, dtype=torch.float64)
    expected = loss_of(decoder, patches, to_tokens(captions, "max_length"))
    loss = loss_of(decoder, patches, to_tokens(captions, padding))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parallel_caption_share", [0.0, 0.75])
def test_loss_of_a_batch_is_the_mean_over_its_halves(parallel_caption_share: float) -> None:
    """So that the loss of two processes, each with a half, is that of one."""
    decoder = build_decoder(parallel_caption_share)
    captions = random_captions(8)
    patches = torch.randn(8, 5, WIDTH, dtype=torch.float64)
    whole = loss_of(decoder, patches, to_tokens(captions, "max_length"))
    halves = [
        loss_of(decoder, patches[rows], to_tokens(captions[rows], "max_length"))
        for rows in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(whole, torch.stack(halves).mean(), rtol=1e-12, atol=1e-12)


def test_mask_tokens_attend_to_padding_so_that_other_paddings_are_refused() -> None:
    experiment = change(EXPERIMENTS["cap-tiny"], parallel_caption_share=0.75)
    with pytest.raises(
        ValueError, match="text_padding must be max_length with parallel_caption_share"
    ):
        require_method_accepts(experiment)
    require_method_accepts(change(experiment, text_padding="max_length"))


def test_sharded_decoder_is_called_equally_often_on_all_ranks() -> None:
    """FSDP2 communicates in each call of a block, and bucketed captions have different numbers of groups."""
    sharded = change(EXPERIMENTS["cap-tiny"], sharding="fsdp2")
    with pytest.raises(ValueError, match="text_padding must be longest or max_length for cap with"):
        require_method_accepts(sharded)
    require_method_accepts(change(sharded, text_padding="longest"))


def test_flops_of_the_decoder_are_those_of_its_matrices() -> None:
    """Counted by hand: projections of attention, products of attention, MLP and head, at every width."""
    experiment = change(EXPERIMENTS["cap-tiny"], batch_size=8)
    _, model = build_tower_and_model_on_meta(experiment)
    assert isinstance(model, Captioner)
    width, layers = 128, 2
    vocabulary, patches = model.decoder.head.out_features, 16
    for tokens in (8, 24):
        target = make_meta_captions(8, tokens)
        flops = count_mean_step_flops(experiment, [target])
        n = tokens - 1
        block = n * 4 * width * width + 2 * n * width * width + 2 * patches * width * width
        block += 8 * n * width * width
        attention = 2 * n * n * width + 2 * n * patches * width
        expected = 2 * 8 * (layers * (block + attention) + n * width * vocabulary)
        assert flops.text_forward == expected
        assert flops.forward == flops.image_forward + flops.text_forward
        assert flops.step == pytest.approx(3 * flops.forward, rel=0.02)


def test_a_row_of_the_decoder_is_one_caption_although_text_towers_pack_several() -> None:
    experiment = change(EXPERIMENTS["cap-tiny"], text_padding="packed_rows")
    target = METHODS["cap"].make_target_function(experiment)(
        CaptionsWithRows.from_texts(["a red apple", "two cats"])
    )
    batch = target.select(torch.tensor([1, 0]))
    assert batch.positions is None
    assert sum(len(ids) for ids in batch.groups) == 2
