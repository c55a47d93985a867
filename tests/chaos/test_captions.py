"""Odd captions of many kinds: read, tokenised, labelled, trained on; never a crash, and no long wait."""

import time
from functools import partial
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from bench.data.captions.reader import NO_CAPTION
from bench.data.targets import CaptionsWithRows
from bench.interfaces.method import METHODS
from tests.chaos.conftest import Tries
from tests.chaos.odd_captions import of_json, of_text
from tests.chaos.short import short_experiment
from tests.data.shards import encode_image, make_image, open_shards, write_shard

MOST_SECONDS = 10.0
SMALL = 100_000  # bytes of captions that are tried each time


def odd_captions(tries: Tries) -> dict[str, dict[str, bytes]]:
    """Return the members of a sample by what is odd about its caption."""
    texts = {
        name: {"txt": text} for name, text in of_text().items() if tries.share or len(text) < SMALL
    }
    return texts | {name: {"json": text} for name, text in of_json().items()}


def targets_of(texts: list[str], names: list[str]) -> None:
    for name in names:
        METHODS[name].make_target_function(short_experiment(name))(
            CaptionsWithRows.from_texts(texts)
        )


def test_odd_caption_is_read_or_skipped_by_class(tries: Tries, tmp_path: Path) -> None:
    names = [*METHODS] if tries.share else ["clip", "catlip"]
    image = encode_image(make_image(0))
    for number, (name, members) in enumerate(odd_captions(tries).items()):
        start = time.process_time()
        files = {f"odd.{suffix}": content for suffix, content in members.items()}
        plain = {"plain.jpg": image, "plain.txt": b"a dog"}
        path = write_shard(tmp_path / str(number) / "0.tar", {"odd.jpg": image, **files, **plain})
        try:
            samples = open_shards(str(path.parent), tmp_path / "cache")
        except ValueError as error:
            if str(path) in str(error):
                continue
            raise
        assert samples.skipped.keys() <= {NO_CAPTION}, name
        assert samples.total_with_unusable == 2, f"{name}: neither read nor counted"
        texts = [samples.caption(row) for row in range(len(samples))]
        targets_of(texts, names)
        assert time.process_time() - start <= MOST_SECONDS, name


def test_no_caption_crashes_a_method(tries: Tries) -> None:
    drawn = st.binary(max_size=200).map(partial(str, encoding="utf-8", errors="replace"))
    texts = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), drawn)

    @hypothesis.seed(tries.seed)
    @hypothesis.settings(
        max_examples=tries(few=10, full=500), deadline=None, database=None, derandomize=False
    )
    @hypothesis.given(st.lists(texts, min_size=1, max_size=4))
    def law(texts: list[str]) -> None:
        targets_of(texts, [*METHODS])

    law()
