"""Exit codes of commands; those of signals are in `bench.console.signals`."""

OK, DISAGREEMENT, USAGE, FAILED_CASE, INCONCLUSIVE = 0, 1, 2, 3, 4
