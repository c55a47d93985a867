"""CatLIP's labels as its released code has them, dense, give the same training."""

from pathlib import Path

import pytest
import torch

from bench.data.released_labels import make_multi_hot
from bench.data.targets import LabelPairs
from bench.train.build import TrainRun, build_train_run, open_batch_stream
from losses.multilabel import dense_multilabel_loss, multilabel_loss
from tests.small import small

CPU = torch.device("cpu")


def assembled(results: Path, **changes: object) -> TrainRun:
    return build_train_run(open_batch_stream(small("catlip", **changes), CPU, results))


def test_dense_loss_and_gradients_equal_those_of_index_lists() -> None:
    logits = torch.randn(4, 9, dtype=torch.float64).requires_grad_()
    labels = LabelPairs.from_label_lists([[3, 1], [], [0, 8, 4], [2]])
    losses = (
        multilabel_loss(logits, labels.rows, labels.columns),
        dense_multilabel_loss(logits, make_multi_hot(labels, 9)),
    )
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(loss, logits)[0] for loss in losses)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("padded_head_rows", [None, 1000])
def test_dense_labels_train_as_sparse_ones(padded_head_rows: int | None, results: Path) -> None:
    runs = [
        assembled(results, synset_label_format=one, padded_head_rows=padded_head_rows)
        for one in ("sparse", "dense")
    ]
    batches = [run.stream.batch(0) for run in runs]
    sparse, dense = (batch.target for batch in batches)
    assert dense.values.dtype == torch.int64
    assert dense.values.shape == (16, runs[0].model.head.out_features)
    assert torch.equal(
        dense.values.nonzero(), torch.stack([sparse.rows, sparse.columns], 1).unique(dim=0)
    )
    losses = [run.step.forward(batch) for run, batch in zip(runs, batches, strict=True)]
    for run, loss in zip(runs, losses, strict=True):
        run.step.backward(loss)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    for one, other in zip(*(run.model.parameters() for run in runs), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)
