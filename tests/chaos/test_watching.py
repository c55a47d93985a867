"""What is changed outside of a folder is seen, whatever leads there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.watching import watch_audit_events


def linked(folder: Path, to: Path) -> Path:
    (folder / "link").symlink_to(to)
    return folder / "link"


def in_open_folder(folder: Path, act: Callable[[int], None]) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        act(number)
    finally:
        os.close(number)


AWAY: dict[str, Callable[[Path, Path], object]] = {
    "..": lambda own, away: (own / ".." / away.name / "new").write_text("x"),
    "a like beginning": lambda own, _: own.with_name(f"{own.name}0").mkdir(),
    "a rename out": lambda own, away: (own / "mine").rename(away / "new"),
    "a rename in": lambda own, away: (away / "theirs").rename(own / "new"),
    "a hard link out": lambda own, away: (away / "new").hardlink_to(own / "mine"),
    "a hard link in": lambda own, away: (own / "new").hardlink_to(away / "theirs"),
    "a link out": lambda own, away: (away / "new").symlink_to(own / "mine"),
    "a link that leads out": linked,
    "through a link": lambda own, away: (linked(own, own / "sub") / ".." / ".." / away.name / "new").write_text("x"),
    "a relative link that leads out": lambda own, away: (own / "link").symlink_to(f"../{away.name}/theirs"),
    "a folder": lambda _, away: (away / "new").mkdir(),
    "a file removed": lambda _, away: (away / "theirs").unlink(),
    "a folder removed": lambda _, away: (away / "empty").rmdir(),
    "rights": lambda _, away: (away / "theirs").chmod(0o600),
    "times": lambda _, away: os.utime(away / "theirs"),
    "a length": lambda _, away: os.truncate(away / "theirs", 0),
    "bytes as a name": lambda _, away: os.mkdir(os.fsencode(away / "new")),  # noqa: PTH102 - pathlib has no bytes
    "from an open folder": lambda _, away: in_open_folder(away, lambda number: os.mkdir("new", dir_fd=number)),
    "from an open folder, up": lambda own, away: in_open_folder(
        own, lambda number: os.mkdir(f"../{away.name}/new", dir_fd=number)
    ),
}
WITHIN: dict[str, Callable[[Path], object]] = {
    "..": lambda own: (own / "sub" / ".." / "new").write_text("x"),
    "renames and links": lambda own: ((own / "mine").rename(own / "b"), linked(own, own / "b").read_bytes()),
    "a tree removed": lambda own: shutil.rmtree(own / "sub"),
    "a link removed": lambda own: (own / "outward").unlink(),
    "what is read": lambda own: (own / "outward" / "theirs").read_bytes(),
}


def folders_of(tmp_path: Path) -> tuple[Path, Path]:
    """A folder that may be written to, and one that may not."""
    own, away = tmp_path / "1", tmp_path / "away"
    (own / "sub").mkdir(parents=True)
    (away / "empty").mkdir(parents=True)
    (own / "mine").write_text("x")
    (away / "theirs").write_text("x")
    (own / "outward").symlink_to(away)
    return own, away


@pytest.mark.parametrize("how", AWAY)
def test_change_outside_the_folder_is_detected_through_links_and_dots(how: str, tmp_path: Path) -> None:
    own, away = folders_of(tmp_path)
    with watch_audit_events(own) as seen:
        AWAY[how](own, away)
    assert seen


@pytest.mark.parametrize("how", WITHIN)
def test_change_inside_the_folder_is_allowed(how: str, tmp_path: Path) -> None:
    own, _ = folders_of(tmp_path)
    with watch_audit_events(own) as seen:
        WITHIN[how](own)
    assert not seen
