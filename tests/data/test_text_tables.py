"""Text files are tables where their first line names columns, and one caption a line where it does not."""

from pathlib import Path

import pytest

from bench.data.text_tables import open_text_table


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("an image with text on it\na dog, running\n", ["caption"], 2),
        ("image,caption\na.png,a dog\n", ["image", "caption"], 1),
        ('"image";"caption"\na.png;a dog\n', ["image", "caption"], 1),
        ('image,caption\na.png,"Stop" sign\nb.png,"a, ""b"""\n', ["image", "caption"], 2),
    ],
)
def test_words_of_a_first_caption_are_no_header(
    tmp_path: Path, text: str, columns: list[str], rows: int
) -> None:
    path = tmp_path / "captions.txt"
    path.write_text(text, encoding="utf-8")
    with open_text_table(path) as table:
        if columns == ["caption"]:
            assert len(table.columns) == 1
        else:
            assert list(table.columns) == columns
        assert len(list(table.read_rows([]))) == rows
