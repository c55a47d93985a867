"""A run: a function that a fresh process calls with keyword arguments, and the record of what it returns.

The command line describes a run without torch and sends it as JSON; the process of the run imports torch.
"""

import inspect
import traceback
from pathlib import Path
from typing import Any

import msgspec

from bench.console.console import StopRequest, UserError, format_error_on_one_line, log
from bench.environment.cores import count_available_cores
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.experiment.config import Experiment
from bench.interfaces.method import method_text_if_from_extension
from bench.interfaces.registry import import_object
from bench.records.record import Record, write_record
from bench.records.record_kind import AnyRecordContent


class FunctionRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function that a process of its own calls, and the files that it leaves.

    The function takes keyword arguments: those of `arguments`, and of the following those that its signature names.
    `experiment`, `device`, `results` (the folder of the records), `first_file`, `comparison` (its name),
    `circumstances` (those of the record) and `stop` (a `StopRequest`, for a run that saves checkpoints). What it
    returns is recorded in the first file; a function that returns None writes its files itself.
    """

    function: str  # "package.module:function"
    label: str  # name of the run in messages
    results: str  # absolute path of the folder of the records
    comparison: str  # name of the comparison
    files: tuple[str, ...]  # absolute paths of the files that exist once the run is done
    experiment: Experiment | None = None
    arguments: dict[str, Any] = {}  # keyword arguments of the function, decoded by its annotations
    is_distributed: bool = False  # whether a launcher starts it on all ranks
    saves_checkpoints: bool = False  # whether it saves its state when it is asked to end
    uses_tf32: bool = False  # whether a GPU rounds the factors of fp32 products to TF32

    @property
    def first_file(self) -> Path:
        """The first file: the record, unless the function writes another one."""
        return Path(self.files[0])

    @property
    def is_done(self) -> bool:
        """Whether every file of the run exists."""
        return all(Path(file).is_file() for file in self.files)

    def encode_as_json(self) -> str:
        """Return the run as JSON."""
        return msgspec.json.encode(self).decode()


def decode_run_from_json(content: bytes | str) -> FunctionRun:
    """Return the run that JSON describes."""
    return msgspec.json.decode(content, type=FunctionRun)


def execute_run_and_write_record(run: FunctionRun, stop: StopRequest | None = None) -> None:
    """Call the function of a decoded run, and write its record with the time and the commit of the start.

    All ranks of a torchrun call it together, and rank 0 writes. A training with checkpoints watches `stop`, and may end
    the process by SystemExit.
    """
    import torch

    from bench.environment.machine import default_device
    from bench.environment.tf32 import set_tf32
    from bench.train.distributed import join_process_group
    from bench.train.equal_ranks import require_equal_ranks_and_collect_circumstances

    ranks = read_torchrun_ranks()
    if ranks.world_size > 1:  # else the environment says how many threads the run has
        torch.set_num_threads(max(1, count_available_cores() // ranks.local_world_size))
    device = default_device()
    set_tf32(enabled=run.uses_tf32 and device.type == "cuda")
    with join_process_group(device):
        if ranks.world_size > 1 and run.experiment is not None:
            require_multi_process_support(run.experiment)
        circumstances = require_equal_ranks_and_collect_circumstances(run.experiment, device)
        known = {
            "experiment": run.experiment,
            "device": device,
            "results": Path(run.results),
            "first_file": run.first_file,
            "comparison": run.comparison,
            "circumstances": circumstances,
            "stop": stop,
        }
        measured = call_function(run.function, known, run.arguments)
        if measured is not None and ranks.rank == 0:
            record = Record(
                comparison=run.comparison,
                experiment=run.experiment,
                circumstances=circumstances,
                measured=measured,
                method=method_text_if_from_extension(run.experiment),
            )
            write_record(record, run.first_file)


def require_multi_process_support(experiment: Experiment) -> None:
    """Raise UserError for an experiment that several processes cannot train."""
    ranks = read_torchrun_ranks()
    sharding = experiment.runtime.sharding
    is_uneven = ranks.world_size % ranks.local_world_size > 0
    is_sharded = sharding != "ddp"
    has_average = experiment.optimizer.ema_decay is not None
    has_simulation = experiment.runtime.simulated_global_batch is not None
    refusals = {
        "sharding=hsdp needs as many processes on every node": sharding == "hsdp" and is_uneven,
        "ema_decay needs sharding=ddp": is_sharded and has_average,
        # On shards, the rounding of its bf16 products would change an update by 5 %.
        "optimizer=muon needs sharding=ddp": is_sharded
        and experiment.optimizer.optimizer == "muon",
        "log_recomputed_grad_norm needs sharding=ddp": is_sharded
        and experiment.optimizer.log_recomputed_grad_norm,
        "simulated_global_batch needs one process": has_simulation,
        "micro_batches needs one process": experiment.training.micro_batches > 1,
    }
    for reason, is_refused in refusals.items():
        if is_refused:
            raise UserError(f"{experiment.name}: {reason}")


def call_function(
    function_name: str, optional_arguments: dict[str, Any], arguments: dict[str, Any]
) -> AnyRecordContent | None:
    """Call "package.module:function" with arguments decoded from JSON, and those optional ones that it has."""
    function = import_object(function_name)
    parameters = inspect.signature(function).parameters
    given = {name: value for name, value in optional_arguments.items() if name in parameters}
    for name, value in arguments.items():
        given[name] = msgspec.convert(value, parameters[name].annotation)
    content: AnyRecordContent | None = function(**given)
    return content


def log_and_describe_failure(error: Exception) -> str:
    """Return the reason of a failed run in one line, and log the traceback; of a UserError it is not logged.

    Of several ranks it begins with the rank.
    """
    reason = str(error)
    if not isinstance(error, UserError):
        log("".join(traceback.format_exception(error)).rstrip())
        reason = f"{type(error).__name__}: {error}"
    ranks = read_torchrun_ranks()
    if ranks.world_size > 1:
        reason = f"rank {ranks.rank}: {reason}"
    return format_error_on_one_line(reason)
