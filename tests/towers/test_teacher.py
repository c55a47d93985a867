"""Stored features are those of the whole images, of the pack and of shards, and of no other data."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.__main__ import main
from bench.data.pack import PackImages
from bench.data.stream import eval_transform
from bench.towers.teacher import build_teacher, stored_features, write_teacher_features
from bench.train.build import build_train_state, load_data
from models.heads import Student
from tests.data.shards import img2dataset_members, write_shard
from tests.small import small

CPU = torch.device("cpu")


def test_stored_features_have_one_row_per_image_and_a_student_reads_its_own(
    results: Path, images: PackImages, tmp_path: Path
) -> None:
    path, experiment = tmp_path / "features.safetensors", small("distill", image_size=24)
    write_teacher_features(experiment, CPU, results, path)
    features = load_file(path)["features"]
    teacher = build_teacher(experiment).eval()
    assert features.shape == (len(images), teacher.width)
    some = torch.tensor([0, 70, 11_000])
    with torch.inference_mode():
        expected = teacher(eval_transform(images.pixels[some], teacher.image_size))
    torch.testing.assert_close(features[some], expected, rtol=1e-4, atol=1e-5)

    run = build_train_state(load_data(small("distill", teacher=str(path)), CPU, results))
    assert isinstance(run.model, Student)
    assert run.model.teacher is None
    batch = run.stream.batch(3)
    assert torch.equal(batch.target.values, features[run.stream.order.batch_rows(3)])
    losses = [float(run.step(batch, 3e-3)) for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]


def test_stored_features_of_shards_follow_sample_positions_and_refuse_other_data(
    results: Path, tmp_path: Path
) -> None:
    for name, first in (("a", 0), ("b", 10)):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "0.tar", img2dataset_members(first, 6))
    path, data = tmp_path / "features.safetensors", str(tmp_path / "a")
    write_teacher_features(small("distill", data=data), CPU, results, path)
    experiment = small("distill", data=data, teacher=str(path), batch_size=4)
    stored = stored_features(experiment)
    assert stored is not None
    assert stored.shape[0] == 6
    assert stored.norm(dim=1).min() > 0
    stream = load_data(experiment, CPU, results)
    assert torch.equal(stream.target(0).values, stored[stream.order.batch_rows(0)])
    with pytest.raises(ValueError, match=r"holds features of data=.*a, which is not this data="):
        stored_features(small("distill", data=str(tmp_path / "b"), teacher=str(path)))


def test_embed_verb_refuses_unsupported_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.safetensors"
    for arguments, text in (
        (
            ["clip-tiny", "--out", str(out)],
            "clip-tiny has the method clip; name an experiment of a method with",
        ),
        (["distill-tiny", "--out", "x.pt"], "--out must be a .safetensors file, got x.pt"),
    ):
        assert main(["embed", *arguments]) == 2
        assert text in capsys.readouterr().err
    out.touch()
    assert main(["embed", "distill-tiny", "--out", str(out)]) == 2
    assert "exists; remove it, or name another file" in capsys.readouterr().err
