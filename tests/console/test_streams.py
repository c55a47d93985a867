"""Standard output that cannot encode what is printed."""

import os
import subprocess
import sys

from bench.environment.circumstances import CHECKOUT


def test_characters_that_the_terminal_lacks_are_escaped() -> None:
    command = [sys.executable, "-m", "bench", "claim", "catlip-2.7x"]
    whole, narrow = (
        subprocess.run(
            command,
            cwd=CHECKOUT,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for encoding in ("utf-8", "ascii")
    )
    assert "×" in whole
    assert narrow == whole.encode("ascii", "backslashreplace").decode()
