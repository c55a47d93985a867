"""The child process of one run: it reads a request on standard input and writes the run's records.

Every run has a fresh process, so that none inherits the memory or the caches of another.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from bench.console.console import (
    INTERRUPTED,
    StopRequest,
    UserError,
    describe_error,
    escape_unprintable,
    log,
    record_signals,
)
from bench.environment.child_processes import die_with_parent, kill_children
from bench.environment.files import atomic_write
from bench.environment.imports import imports_without_gc
from bench.environment.rank_info import torchrun_env
from bench.environment.slots import wait_for_slot
from bench.interfaces.extensions import load_extensions
from bench.orchestration.request_base import Request, decode_request
from bench.train.not_finite import NotFiniteError

PARENT = "CATLIP_BENCH_PARENT"  # environment variable with the process id of the process that starts runs


def run_request(request: Request, stop: StopRequest | None = None) -> None:
    """Run, and write the records that are missing; of several ranks rank 0 writes.

    A training with checkpoints watches `stop`, and may end the process by SystemExit.
    """
    import torch

    from bench.environment.machine import default_device
    from bench.environment.tf32 import allow_tf32
    from bench.train.distributed import process_group

    device = torch.device("cpu") if request.uses_gloo else default_device()
    allow_tf32(allowed=request.uses_tf32 and device.type == "cuda")
    with process_group(request.rendezvous_id, device), _save_sample_keys_if_not_finite(request):
        request.carry_out(device, stop)


@contextmanager
def _save_sample_keys_if_not_finite(request: Request) -> Iterator[None]:
    """Write the sample keys of a step that is not finite to a file of this rank, one per line; the error names it."""
    try:
        yield
    except NotFiniteError as error:
        path = request.paths[0].with_suffix(f".rank{torchrun_env().rank}.samples.txt")
        with atomic_write(path) as temporary:
            temporary.write_text("".join(f"{escape_unprintable(key)}\n" for key in error.keys), encoding="utf-8")
        raise NotFiniteError(error.step, error.keys, path.name) from error


def main() -> None:
    """Execute the request on standard input; print the error as JSON on standard output if it fails."""
    try:
        load_extensions()
        request = decode_request(sys.stdin.buffer.read())
        if request.rendezvous_id or not request.saves_checkpoints:  # a single process saves first
            die_with_parent(int(os.environ[PARENT]))
        wait_for_slot()
        with record_signals() if request.saves_checkpoints else nullcontext() as stop:  # torch's import takes seconds
            with imports_without_gc():
                import bench.train.distributed  # noqa: F401 - and with it torch and open_clip
            run_request(request, stop)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit:  # mostly after a signal; loader workers would finish their batches first
        kill_children()
        raise
    except UserError as error:
        print(json.dumps({"error": describe_error(error)}))
        kill_children()
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the parent and the terminal receive the error
        print(json.dumps({"error": describe_error(f"{type(error).__name__}: {error}")}))
        for line in traceback.format_exc().splitlines():
            log(line)
        sys.exit(1)


if __name__ == "__main__":
    main()
