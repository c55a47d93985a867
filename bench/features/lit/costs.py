"""The device seconds of trainings. No torch here."""

from pathlib import Path

from bench.environment.circumstances import RunCircumstances, count_devices
from bench.interfaces.schedule import SCHEDULES
from bench.records.record import Training, comparison_name_from_filename, read_record


def find_pretraining_seconds(tower: Path, here: RunCircumstances) -> float | None:
    """Return the device seconds of a tower's training, from the record that `train` wrote beside the tower's file.

    Of a training with several budgets, a tower has the share of the seconds that its own images have in all images:
    trunk and cool-down, without the cool-downs of other budgets. None without a record, or for another machine.
    """
    comparison = comparison_name_from_filename(tower)
    for path in tower.parent.glob(f"{comparison}.training.*.json"):
        record = read_record(path)
        training = record.measured
        assert isinstance(training, Training)
        assert record.experiment is not None
        images_by_tower = {branch.tower: branch.images for branch in training.branches}
        is_here = record.circumstances.machine_and_gpu == here.machine_and_gpu
        if is_here and tower.name in images_by_tower:
            settings = record.experiment.training
            cooldown_share = SCHEDULES[settings.schedule].cooldown_share(settings)
            *others, longest = sorted(images_by_tower.values())
            share = images_by_tower[tower.name] / (longest + cooldown_share * sum(others))
            return training.seconds * count_devices(record.circumstances) * share
    return None
