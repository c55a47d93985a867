"""What is trained here is what open_clip computes from the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.labels.subwords import SubwordEncoder
from bench.train.build import build_train_run, open_batch_stream
from models.heads import DualEncoder, build_open_clip_model, to_open_clip_state
from tests.small import few_images


@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_open_clip_loads_our_weights_and_computes_our_features(method: str, results: Path) -> None:
    experiment = few_images(method, text_padding="max_length")
    run = build_train_run(open_batch_stream(experiment, torch.device("cpu"), results))
    assert isinstance(run.model, DualEncoder)
    size = SubwordEncoder(experiment.targets.subword_vocabulary).size
    sides = (experiment.image.image_size, experiment.text.context_length, size)
    theirs: Any = build_open_clip_model(
        experiment.image.tower, *sides, has_bias=method == "siglip"
    ).eval()
    theirs.load_state_dict(
        to_open_clip_state(run.model)
    )  # strict: none is missing, none is left over
    images, ids = (
        run.stream.batch(0).images,
        run.stream.targets.groups[0][run.stream.order.batch_rows(0)],
    )
    target = run.stream.batch(0).target
    image, text = run.model.eval()(images, *target.text_tower_inputs)
    torch.testing.assert_close(
        image, theirs.encode_image(images, normalize=True), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(text, theirs.encode_text(ids, normalize=True), rtol=1e-5, atol=1e-6)
    assert theirs.logit_scale == run.model.log_scale
    assert method == "clip" or theirs.logit_bias == run.model.bias
