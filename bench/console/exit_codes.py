"""How a command ends: its exit codes. Those of an end by a signal are in `bench.console.signals`."""

OK, DISAGREEMENT, USAGE, FAILED_CASE, INCONCLUSIVE = 0, 1, 2, 3, 4
