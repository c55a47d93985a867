"""Which rounds of a comparison were disturbed: by the windows of its runs, others' CPU time and a GPU's slowdowns."""

from collections.abc import Collection, Iterable

from bench.measure.throughput import timed_runs, window_rates
from bench.record import HOST_BUSY, OTHERS_BUSY, Record, Speed
from bench.statistics import Disturbance, Windows, find_disturbed_rounds


def window_rates_by_experiment(records: Iterable[Record], names: Collection[str]) -> dict[str, Windows]:
    """Return the images per second of every window, by experiment and round.

    Without experiments whose windows have images of several sizes: such windows differ in speed on any machine.
    """
    return {
        name: {speed.round: window_rates(one, speed) for one, speed in runs}
        for name, runs in timed_runs(records, names).items()
        if not any(speed.window_images for _, speed in runs)
    }


def find_disturbance(records: Collection[Record], names: Collection[str]) -> Disturbance:
    """Return which rounds of the named experiments were disturbed; see `find_disturbed_rounds`.

    The CPU time that others took counts where the device is a CPU.
    """
    busy, slowed = dict[int, float | None](), dict[int, float]()
    for record in records:
        one, speed = record.experiment, record.measured
        if one is not None and isinstance(speed, Speed) and one.name in names:
            readings = speed.utilisation if record.circumstances.device == "cpu" else {}
            taken = [readings[name] for name in (OTHERS_BUSY, HOST_BUSY) if name in readings]
            most = busy.setdefault(speed.round, None)
            if taken:
                busy[speed.round] = max(most or 0.0, sum(taken))
            if speed.slowed_percent:
                slowed[speed.round] = max(slowed.get(speed.round, 0.0), speed.slowed_percent)
    return find_disturbed_rounds(window_rates_by_experiment(records, names), busy, slowed)


def describe_disturbance(found: Disturbance) -> str:
    """Say in one sentence how many rounds were disturbed and by what, and whether the intervals can be trusted."""
    if not found.is_checked and not found.disturbed_rounds:
        return (
            "Whether the machine was disturbed is unknown: there are no readings of a CPU, and fewer than five rounds "
            "or windows with images of several sizes."
        )
    if not found.disturbed_rounds:
        rounds = f"all {found.total_rounds} rounds" if found.total_rounds > 1 else "the only round"
        return f"The machine was undisturbed in {rounds}."
    causes = []
    if found.busy:
        causes.append(f"others used up to {max(found.busy.values()):.0f} % of it")
    if found.slow:
        causes.append(f"up to {100 * max(found.slow.values()):.0f} % of a round's windows were slow")
    if found.slowed:
        most = max(found.slowed.values())
        causes.append(f"heat or its hardware slowed the GPU in up to {most:.0f} % of a run, in each of its windows")
    rounds = f"{len(found.disturbed_rounds)} of {found.total_rounds} rounds"
    text = f"This machine was disturbed in {rounds} ({'; '.join(causes)})"
    if found.has_enough_undisturbed_rounds:
        return f"{text}, which the ratios leave out. An interval can be trusted unless its verdict is “disturbed”."
    return f"{text}. No ratio can be trusted: repeat the comparison when nothing else uses the machine."
