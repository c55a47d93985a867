"""Which methods the default comparison trains, and on what."""

from pathlib import Path

import pytest

from bench.cli.default_comparison import tiny_experiments
from bench.cli.measure import format_report_command


def test_methods_are_named_with_or_without_their_scale_and_a_typo_is_answered() -> None:
    names = [
        experiment.name for experiment in tiny_experiments(["clip", " flip-tiny", "clip-tiny"])
    ]
    assert names == ["clip-tiny", "flip-tiny"]
    with pytest.raises(ValueError, match="no method named 'siglipp'; did you mean 'siglip'"):
        tiny_experiments(["siglipp"])


def test_command_that_draws_a_page_names_the_folder_relative_to_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert format_report_command(Path("my results")).endswith(" report build 'my results'")
    assert format_report_command(tmp_path / "there").endswith(" report build ../there")
