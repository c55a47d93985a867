"""The first screen answers: its words follow the verdict, its limits and the reader's questions follow the records."""

import pytest
from msgspec.structs import replace

from bench.experiment.config import change
from bench.records.record import Record
from tests.reports.conftest import first_screen, speed_record, words

EQUAL = 0.1303 / 0.1022  # of CatLIP's step to CLIP's: both train equally many images per second


def timed(rounds: int = 10, *, slower: float = 1.0, **circumstances: object) -> list[Record]:
    """Runs of CLIP and of CatLIP, which takes so many times as long as it does."""
    runs = [
        speed_record(name, number, slower=factor)
        for number in range(rounds)
        for name, factor in (("clip-tiny", 1.0), ("catlip-tiny", slower))
    ]
    return [replace(one, circumstances=replace(one.circumstances, **circumstances)) for one in runs]


def heading(text: str) -> str:
    return text[text.index("<h1>") : text.index("</h1>")]


@pytest.mark.parametrize(
    ("slower", "rounds", "answer"),
    [
        (1.0, 10, "CatLIP trains 1.27 times as many images per second as CLIP (95 % interval 1.2"),
        (
            1.5 * EQUAL,
            10,
            "CatLIP trains only 0.67 times as many images per second as CLIP (95 % interval 0.6",
        ),
        (
            EQUAL,
            10,
            "CatLIP trains as many images per second as CLIP, within 2 %: 1.00 times (95 % interval ",
        ),
        (1.0, 3, "It cannot be told yet whether CatLIP or CLIP is faster: CatLIP trained 1.2"),
    ],
    ids=["faster", "slower", "no difference", "inconclusive"],
)
def test_heading_answers_by_the_verdict(slower: float, rounds: int, answer: str) -> None:
    shown = words(heading(first_screen("x", timed(rounds, slower=slower))))
    assert shown.startswith(answer)
    assert shown.endswith(f", {rounds} runs each).")


def test_page_of_a_smoke_test_says_at_its_top_that_its_figures_mean_nothing() -> None:
    smoke, measured = (first_screen(name, timed(1)) for name in ("1-smoke", "1-measure"))
    assert words(smoke.partition("<header>")[2]).startswith(
        "Smoke test 1-smoke of pre-training methods Smoke test: the figures on this page mean nothing."
    )
    assert "Smoke test" in smoke[smoke.index("<title>") : smoke.index("</title>")]
    assert words(heading(smoke)).startswith("Smoke test")
    assert "CatLIP trained 1.2" in words(smoke)
    assert "Smoke" not in measured.partition("<main>")[0]


def test_page_names_the_process_whose_core_was_left_to_it() -> None:
    records = timed(threads=1, busy_processes="python3 (100 % of a core)")
    sentence = "Timed with 1 thread, because python3 (100 % of a core) kept a core busy."
    assert sentence in words(first_screen("x", records))
    assert "kept a core busy" not in words(first_screen("x", timed()))


def test_page_says_what_it_does_not_show(whole: list[Record], whole_page: str) -> None:
    machine = whole[0].circumstances.machine
    small = "catlip-bench-tiny at 48 px"
    here = f"This does not show other machines than {machine}, other sizes than {small}"
    assert f"{here}, other seeds and other tasks." in words(whole_page)
    large = [
        replace(one, experiment=change(one.experiment, tower="ViT-B-16", image_size=224))
        for one in timed()
    ]
    assert "other sizes than ViT-B-16 at 224 px, other" in words(first_screen("x", large))


def test_page_of_a_busy_machine_shows_ratios_of_all_steps_without_a_verdict() -> None:
    def shown(waits: float) -> str:
        runs = [
            replace(
                run,
                measured=replace(
                    run.measured, window_core_waits=[waits] * len(run.measured.window_seconds)
                ),
            )
            for run in timed()
        ]
        return words(first_screen("x", runs))

    note = "20 of 20 runs were disturbed nearly throughout and are left out."
    assert note in shown(1.0)
    assert "no interval: of all steps, because other work disturbed nearly all runs" in shown(1.0)
    assert "disturbed" not in shown(0.0)
