"""The teacher of a distillation: a trained tower from a file, or an untrained one by its name."""

from pathlib import Path

import torch

from bench.towers.head_file import save_weights
from bench.towers.provenance import TowerProvenance
from bench.train.build import build_train_run, build_untrained_tower, open_batch_stream
from models.heads import DistillationStudent
from tests.small import few_images, small

CPU = torch.device("cpu")


def test_student_learns_the_features_of_a_tower_file(results: Path, tmp_path: Path) -> None:
    trained, path = small("catlip"), tmp_path / "teacher.safetensors"
    state = build_untrained_tower(trained).state_dict()
    save_weights(
        state, path, TowerProvenance(experiment=trained, images=1, budgets=()).to_metadata()
    )
    experiment = few_images("distill", teacher_tower=str(path))
    run = build_train_run(open_batch_stream(experiment, CPU, results))
    assert isinstance(run.model, DistillationStudent)
    teacher = run.model.teacher.state_dict()
    assert all(torch.equal(value, teacher[name]) for name, value in state.items())
    losses = [float(run.step(run.stream.batch(3), 3e-3)) for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]
