"""CatLIP's labels as its released code has them: dense, and computed by NLTK for each image, give the same training."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.data.released_labels import DenseLabels, LabelsComputedWhenLoaded, make_multi_hot
from bench.data.targets import CaptionsWithRows, LabelPairs
from bench.labels.labeller import get_labeller
from bench.labels.nltk_labels import NltkLabeller
from bench.labels.vocabulary import read_vocabulary
from bench.method_parts.synsets import make_synset_label_function
from bench.orchestration.preflight import _require_model_and_files
from bench.train.build import TrainRun, build_train_run, open_batch_stream
from losses.multilabel import dense_multilabel_loss, multilabel_loss
from tests.labels import oracle
from tests.small import small

CPU = torch.device("cpu")
TEXTS = ["a dog and two dogs", "", "a red hot_dog on a table", "nothing of us", "cats. dogs? mice!"]


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


@pytest.mark.parametrize("head_rows", [None, 1000])
def test_dense_labels_train_as_sparse_ones(head_rows: int | None, results: Path) -> None:
    runs = [
        assembled(results, label_format=one, head_rows=head_rows) for one in ("sparse", "dense")
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


@pytest.mark.parametrize("label_format", ["sparse", "dense"])
def test_labels_are_computed_for_each_batch_where_nltk_computes_them(
    label_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Stub:
        def __init__(self, vocabulary: list[str]) -> None:
            assert vocabulary[0].startswith("n")

        def __call__(self, caption: str) -> list[int]:
            asked.append(caption)
            return [len(caption) % 7, 3, 3]

    monkeypatch.setattr("bench.method_parts.synsets.NltkLabeller", Stub)
    target = make_synset_label_function(
        small("catlip", labels="nltk", label_format=label_format).targets
    )(CaptionsWithRows.from_texts(TEXTS))
    assert not asked
    batch = target.select(torch.tensor([2, 0]))
    assert asked == [TEXTS[2], TEXTS[0]]
    labels = batch.labels if isinstance(batch, DenseLabels) else batch
    assert labels.columns.tolist() == [3, 4, 3]  # 24 % 7 is 3, a repeat; 18 % 7
    assert isinstance(batch, DenseLabels) == (label_format == "dense")
    assert isinstance(
        target.labels if isinstance(target, DenseLabels) else target, LabelsComputedWhenLoaded
    )


def test_labels_by_nltk_are_refused_without_it_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
        monkeypatch.delitem(sys.modules, module)

    def refuse_nltk(name: str, *_: object) -> None:
        if name == "nltk":
            raise ModuleNotFoundError(name=name)

    finders = [SimpleNamespace(find_spec=refuse_nltk), *sys.meta_path]
    monkeypatch.setattr(sys, "meta_path", finders)
    with pytest.raises(ValueError, match=r"labels=nltk needs NLTK: pip install -e '\.\[paper\]'$"):
        _require_model_and_files(small("catlip", labels="nltk", head_rows=800))


@pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing() or "")
def test_labels_by_nltk_equal_those_of_the_rule_corenet(images: object) -> None:
    captions = [*dict.fromkeys(images.captions)][::20]  # type: ignore[attr-defined]
    label = NltkLabeller(
        [*read_vocabulary("pack-synsets").keys],
        tagger=lambda tokens: [(token, "NN") for token in tokens],
    )
    assert [label(one) for one in captions] == get_labeller(
        "corenet", "pack-synsets"
    ).find_label_columns(captions)
