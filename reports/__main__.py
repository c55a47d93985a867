"""The command line of the reports: pages and exports from records."""

import sys
from collections.abc import Sequence

from bench.cli.verbs import REPORT_VERBS
from bench.console.console import (
    OK,
    USAGE,
    describe_error,
    log,
    require_utf8,
    run_with_streams,
    split_extension_arguments,
)
from bench.console.options import parse_options
from bench.interfaces.extensions import load_extensions


def main(arguments: Sequence[str], program: str = "python -m reports") -> int:
    """Run one verb; return the exit code."""
    named, arguments = split_extension_arguments(arguments)
    try:
        require_utf8(*arguments)
        load_extensions(named)
        if arguments and arguments[0] not in ("-h", "--help"):
            verb = REPORT_VERBS.find(arguments[0], f"verb of {program}")
            return parse_options(verb, f"{program} {arguments[0]}", arguments[1:]).run()  # type: ignore[no-any-return]
        lines = [f"  {name:8} {REPORT_VERBS.find(name).__doc__}" for name in REPORT_VERBS]
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        log(f"{program}: {describe_error(error)}")
        return USAGE
    print(
        "\n".join([f"usage: {program} VERB ...", *lines]),
        file=sys.stdout if arguments else sys.stderr,
    )
    return OK if arguments else USAGE


if __name__ == "__main__":
    raise SystemExit(run_with_streams(lambda: main(sys.argv[1:])))
