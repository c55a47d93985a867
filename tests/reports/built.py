"""A page built by the command line in a process of its own, warnings being errors."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = (
    "import sys; from reports.__main__ import main; assert main(['build', sys.argv[1]]) == 0; "
    "print(*({'torch', 'open_clip', 'timm', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
)


def frameworks_imported(results: Path) -> str:
    """Build a folder's page; return the deep-learning frameworks that were imported for it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, str(results)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    disturbance, frameworks = done.stderr.splitlines()
    assert disturbance.startswith("The machine was as good as undisturbed")
    return frameworks
