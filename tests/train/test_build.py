"""What a run says of its labels before it begins."""

import re
from pathlib import Path

import pytest
import torch

from bench.data.targets import Labels, TokensAndLabels
from bench.interfaces.method import METHODS
from bench.labels.labeller import get_labeller
from bench.measure.speed import measure_speed
from bench.train.build import load_data, log_labels
from bench.train.loop import train
from tests.data.shards import encode_image, make_image, write_shard
from tests.small import small

CPU = torch.device("cpu")
IMAGE = encode_image(make_image(0))
LINE = r"\S+: vocabulary (?P<vocabulary>\S+), [\d.]+ labels per image, [\d.]+% of captions without a label"


@pytest.mark.parametrize("method", [*METHODS])
def test_methods_with_labels_name_them_and_no_others(
    method: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = load_data(small(method, images=2000), CPU, results)
    capsys.readouterr()
    log_labels(stream)
    (*lines,) = capsys.readouterr().err.splitlines()
    assert len(lines) == isinstance(stream.target(0), Labels | TokensAndLabels)
    for line in lines:
        found = re.match(LINE, line)
        assert found
        assert found["vocabulary"] == ("pack-synsets" if method == "catlip" else "pack-subwords")
        assert line.endswith("(the first 1,024 that the run reads)")


def test_labels_of_shards_are_counted_as_the_labeller_does(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = [*["a dog and a cat"] * 20, *["xyzzy"] * 12]
    members = {
        f"{n}.{s}": c
        for n, text in enumerate(captions)
        for s, c in (("jpg", IMAGE), ("txt", text.encode()))
    }
    experiment = small(
        "catlip", data=str(write_shard(tmp_path / "s.tar", members)), images=32, warmup_images=0
    )
    assert (
        sorted(map(len, get_labeller("corenet", "pack-synsets").label_texts(captions)))
        == [0] * 12 + [2] * 20
    )
    expected = "catlip-tiny: vocabulary pack-synsets, 1.25 labels per image, 37.5% of captions without a label"
    expected += " (the first 32 that the run reads)"
    measure_speed(experiment, CPU, results, 0)
    assert capsys.readouterr().err.count(expected) == 1
    measure_speed(experiment, CPU, results, 1)  # a later round does not repeat it
    assert not capsys.readouterr().err.count(expected)
    train(experiment, CPU, results, {"all": 32}, lambda _: tmp_path / "tower.safetensors")
    assert capsys.readouterr().err.count(expected) == 1
