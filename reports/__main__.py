"""The command line of the reports: pages and exports from records."""

import sys
from collections.abc import Sequence

from bench.console.console import USAGE, report_usage_error, run_with_streams
from bench.console.options import parse_options
from bench.interfaces.extensions import load_extensions, split_extension_arguments
from bench.interfaces.verb import REPORT_VERBS, find_command, list_verbs


def main(arguments: Sequence[str], program: str = "python -m reports") -> int:
    """Run one verb; return the exit code."""
    extensions, words = split_extension_arguments(arguments)
    try:
        load_extensions(extensions)
        if words and words[0] not in ("-h", "--help"):
            command = find_command(words[0], REPORT_VERBS)
            return parse_options(command, f"{program} {words[0]}", words[1:]).run()  # type: ignore[no-any-return]
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        return report_usage_error(error)
    print(f"usage: {program} VERB ...\n{list_verbs(REPORT_VERBS)}")
    return 0 if words else USAGE


if __name__ == "__main__":
    raise SystemExit(run_with_streams(lambda: main(sys.argv[1:])))
