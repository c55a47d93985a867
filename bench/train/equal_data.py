"""What must be equal on all ranks of a distributed run: command, sources, and each node's own copy of the data."""

import os
from hashlib import sha256
from pathlib import Path

from bench.console.console import UserError
from bench.data.samples import caption_files, files_digest, inputs_digest
from bench.environment.circumstances import COMMAND, LOADED_EXTENSIONS, sources_digest
from bench.environment.rank_info import describe_node, torchrun_env
from bench.experiment.config import Experiment
from bench.interfaces.method import get_label_method
from bench.train.distributed import all_gather_objects, world_rank


def require_equal_data(experiment: Experiment) -> None:
    """Raise UserError that names the nodes whose shards, labels or other inputs are not those of rank 0.

    One rank of each node reads the files, because all ranks of a node read the same.
    """
    digest = None
    if torchrun_env().local_rank == 0:
        try:
            digest = _data_digest(experiment)
        except (ValueError, OSError) as error:
            digest = str(error)
    digests_and_nodes = all_gather_objects((digest, describe_node()))
    first_digest, first_node = digests_and_nodes[0]
    differing = [
        f"rank {rank} ({node}): {digest}"
        for rank, (digest, node) in enumerate(digests_and_nodes)
        if digest not in (None, first_digest)
    ]
    if differing:
        first = f"rank 0 ({first_node}): {first_digest}"
        raise UserError(
            f"the ranks read other data={experiment.input.data} "
            "(shards, labels, vocabulary, subset or teacher): "
            f"{'; '.join([first, *differing])}; copy the same files to all nodes, or name a shared folder"
        )


def require_equal_sources() -> None:
    """Raise UserError that names the ranks with another command line, sources or extensions than rank 0."""
    extensions = [
        f"extension {name}: {source}" for name, source in sorted(LOADED_EXTENSIONS.items())
    ]
    facts = {
        "command": os.environ.get(COMMAND, ""),
        "code": ", ".join([f"digest {sources_digest()}", *extensions]),
    }
    facts_of_ranks = all_gather_objects(facts)
    differences = list[str]()
    for fact, of_rank0 in facts_of_ranks[0].items():
        for rank, facts_of_rank in enumerate(facts_of_ranks):
            if facts_of_rank[fact] != of_rank0:
                differences.append(
                    f"rank {rank} has another {fact} than rank 0 ({facts_of_rank[fact]}; rank 0: {of_rank0})"
                )
    if differences:
        text = "; ".join(differences)
        raise UserError(f"{text}: start all ranks by the same command, from equal checkouts")


def shared_inputs_digest(experiment: Experiment) -> str:
    """Return the digest of an experiment's inputs, which rank 0 reads for all ranks."""
    return all_gather_objects(inputs_digest(experiment) if world_rank() == 0 else "")[0]


def _data_digest(experiment: Experiment) -> str:
    """Return a digest of all files that an experiment reads."""
    files = list[Path]()
    captions = caption_files(experiment.input.data, experiment.input.caption)
    method = get_label_method(experiment.method)
    if method is not None:
        files += method.label_files(experiment, captions)
    digests = inputs_digest(experiment), files_digest(path for path in files if path.is_file())
    return sha256("".join(digests).encode()).hexdigest()[:16]
