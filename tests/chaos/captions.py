"""Odd captions of many kinds: read, tokenised, labelled, explained, trained on; never a crash, and no long wait."""

import io
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from bench.console.tables import print_tables
from bench.data.captions.batches import JSON_KINDS, NO_CAPTION, NOT_JSON, NULL, TOO_LONG
from bench.data.manifest import CACHE
from bench.data.sources.tar_shards import open_shards
from bench.data.targets import Captions
from bench.labels.labeller import get_rule
from bench.labels.tables import explanation_table
from bench.method import methods
from tests.chaos.bound import Check, check_at_most, check_none, num_tries
from tests.chaos.made import encode_image, make_image, write_shard
from tests.chaos.odd_captions import of_json, of_text
from tests.chaos.short import short_experiment, train_in_process

FULL_DRAWN, MOST_SECONDS = 500, 10.0
METHODS = ("clip", "catlip", "superclass")
EXPLAINED = 2000  # characters of a caption that are explained: a person types them
NO_TEXT = [f"caption holds {kind}, expected a text" for kind in (*JSON_KINDS.values(), "a number")]
KNOWN = (NULL, TOO_LONG, NO_CAPTION, NOT_JSON, *NO_TEXT)


def run(fraction: float, seed: int, folder: Path) -> list[Check]:
    """Read each caption from a shard of its own, then all of them together in a training."""
    kinds = {name: {"txt": text} for name, text in of_text().items()}
    kinds |= {name: {"json": text} for name, text in of_json().items()}
    crashes, seconds, obeyed = list[str](), dict[str, float](), list[str]()
    for number, (name, members) in enumerate(kinds.items()):
        start = time.monotonic()
        _catch_crash(crashes, name, partial(_read, members, folder / str(number), obeyed))
        seconds[name] = time.monotonic() - start
    _catch_crash(crashes, "all in one training", lambda: _trained_on(list(kinds.values()), folder))
    drawn, slowest = num_tries(FULL_DRAWN, fraction), max(seconds, key=seconds.__getitem__)
    return [
        check_none("kinds of odd captions: crashes without a named cause", len(kinds), crashes),
        check_none("captions drawn by hypothesis: crashes", drawn, _draw_captions(drawn, seed)),
        check_none("kinds of odd captions: control characters on the terminal", len(kinds), obeyed),
        check_at_most(
            "the longest that a caption took, with all methods", MOST_SECONDS, seconds[slowest], "s", slowest
        ),
    ]


def _catch_crash(crashes: list[str], name: str, act: Callable[[], object]) -> None:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        crashes.append(f"{name}: {type(error).__name__}: {error}")


def _read(members: dict[str, bytes], folder: Path, obeyed: list[str]) -> None:
    """Read a caption as a training does; a class has to be known, a shard that is refused has to be named."""
    image = encode_image(make_image(0))
    files = {f"odd.{suffix}": content for suffix, content in members.items()}
    path = write_shard(folder / "0.tar", {"odd.jpg": image, **files, "plain.jpg": image, "plain.txt": b"a dog"})
    try:
        samples = open_shards(str(folder), folder / "cache")
    except ValueError as error:
        if str(path) in str(error):
            return
        raise
    assert set(samples.skipped) <= set(KNOWN), f"of no known class: {samples.skipped}"
    assert len(samples) + samples.skipped.total() == samples.num_positions, "a sample is neither read nor counted"
    texts = [samples.caption(row) for row in range(len(samples))]
    _targets(texts)
    for text in texts:
        output = io.StringIO()
        with redirect_stdout(output):
            print_tables([explanation_table(get_rule("corenet"), text[:EXPLAINED])])
        if not all(one.isprintable() for one in output.getvalue().replace("\n", "")):
            obeyed.append(repr(text[:50]))


def _targets(texts: list[str]) -> None:
    for name, method in methods().items():
        method.targets(short_experiment(name))(Captions.from_texts(texts))


def _trained_on(kinds: list[dict[str, bytes]], folder: Path) -> None:
    """Train on all of them that are no longer than a caption may be."""
    files = {}
    for number, members in enumerate(kinds):
        files[f"{number:03}.jpg"] = encode_image(make_image(number))
        files |= {f"{number:03}.{suffix}": content for suffix, content in members.items()}
    write_shard(folder / "all" / "0.tar", files)
    listed = folder / "usable.csv"  # more are not than a training would otherwise begin with
    usable = open_shards(str(folder / "all"), folder / CACHE).keys.to_pylist()
    listed.write_text("\n".join(["key", *usable]), encoding="utf-8")
    for method in METHODS:
        data = {"data": str(folder / "all"), "subset": str(listed)}
        found = train_in_process(short_experiment(method, **data, batch_size=16, images=64), folder)
        assert set(found.skipped) <= set(KNOWN), f"of no known class: {found.skipped}"


def _draw_captions(count: int, seed: int) -> list[str]:
    """Let hypothesis write captions."""
    characters = st.characters(exclude_categories=["Cs"])
    texts = st.one_of(
        st.text(characters, max_size=200), st.binary(max_size=200).map(partial(str, encoding="utf-8", errors="replace"))
    )

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, deadline=None, database=None, print_blob=False)
    @hypothesis.given(st.lists(texts, min_size=1, max_size=4))
    def law(texts: list[str]) -> None:
        _targets(texts)

    try:
        law()
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return [f"seed {seed}: {type(error).__name__}: {error}"]
    return []
