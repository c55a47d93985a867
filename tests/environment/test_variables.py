"""A variable without a valid number is refused when a command starts, in one line."""

import pytest

from bench.__main__ import main
from bench.data.manifest import user_cache_folder
from bench.environment.variables import (
    SMALLEST,
    read_integer_environment_variable,
)


@pytest.mark.parametrize("text", ["x", "nan", "inf", "-1", "1e400", "9" * 5000, "٣", " "])
@pytest.mark.parametrize("name", list(SMALLEST))
def test_variable_without_a_valid_number_is_refused_at_the_start(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, text)
    assert main(["list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name} must be a ")
    assert line.endswith(": correct it, or unset it")


def test_valid_numbers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_integer_environment_variable("WORLD_SIZE") is None
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1790000000")
    assert read_integer_environment_variable("WORLD_SIZE") == 16
    assert read_integer_environment_variable("SLURM_JOB_END_TIME") == 1_790_000_000
    monkeypatch.setenv("SLURM_JOB_END_TIME", "")
    assert read_integer_environment_variable("SLURM_JOB_END_TIME") is None


def test_user_without_a_home_is_told_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "~no-such-user/caches")
    with pytest.raises(
        ValueError, match="there is no home for ~no-such-user/caches: name a folder"
    ):
        user_cache_folder()
