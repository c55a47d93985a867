"""Executes a launcher such as torchrun in place of this process, so that it ends with the command line.

`python -m bench.orchestration.launcher WORDS` executes the words. When the command line is killed, so is the launcher,
and the launcher's processes with it.
"""

import json
import os
import sys
from pathlib import Path

from bench.environment.child_processes import PARENT, die_with_parent


def execute_words_of_command_line() -> None:
    """Execute the words of the command line, such as those of torchrun, which may lie beside this Python."""
    die_with_parent(int(os.environ[PARENT]))
    os.environ["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    )
    try:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell
    except OSError as error:
        print(json.dumps({"error": f"--launch {sys.argv[1]}: {error.strerror}"}))
        sys.exit(1)


if __name__ == "__main__":
    execute_words_of_command_line()
