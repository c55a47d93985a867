"""The process of one run: it reads the run on standard input, or in its second argument, and executes it.

Every run has a fresh process, so that none inherits the memory or the caches of another. Its first argument is for
process lists. A launcher such as torchrun starts one process for each rank, whose standard input is not ours.
"""

import json
import os
import sys
from contextlib import nullcontext

from bench.console.console import INTERRUPTED, handle_stop_signals
from bench.environment.child_processes import (
    PARENT,
    PARENT_AT_START,
    die_with_parent,
    kill_multiprocessing_children,
)
from bench.environment.imports import imports_without_gc
from bench.environment.slots import stop_slot_inheritance, wait_for_slot
from bench.interfaces.extensions import load_features_and_extensions
from bench.orchestration.runs import (
    decode_run_from_json,
    execute_run_and_write_record,
    log_and_describe_failure,
)


def read_and_execute_run() -> None:
    """Execute the run; print the error as JSON on standard output if it fails."""
    try:
        is_launched = len(sys.argv) > 2  # noqa: PLR2004 - the run is the second argument
        stop_slot_inheritance()
        load_features_and_extensions()
        run = decode_run_from_json(sys.argv[2] if is_launched else sys.stdin.buffer.read())
        if not run.saves_checkpoints:  # a training saves first
            die_with_parent(PARENT_AT_START if is_launched else int(os.environ[PARENT]))
        wait_for_slot()
        # Torch's import takes seconds.
        with handle_stop_signals() if run.saves_checkpoints else nullcontext() as stop:
            with imports_without_gc():
                import bench.train.distributed  # noqa: F401 - and with it torch and open_clip
            execute_run_and_write_record(run, stop)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the parent and the terminal receive the error
        print(json.dumps({"error": log_and_describe_failure(error)}), flush=True)
        sys.exit(1)
    finally:
        # Python would wait for them; loader workers would finish their batches first.
        kill_multiprocessing_children()


if __name__ == "__main__":
    read_and_execute_run()
