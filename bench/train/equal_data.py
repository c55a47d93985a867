"""The data of a distributed run, which must be equal on all ranks: each rank reads its own copy of the files."""

from hashlib import sha256
from pathlib import Path

from bench.console.console import UserError
from bench.data.samples import caption_files, data_files, files_digest, inputs_digest
from bench.data.shards.facts import MANIFEST_NAME
from bench.environment.rank_info import describe_node
from bench.experiment.config import Experiment
from bench.interfaces.method import get_label_method
from bench.train.distributed import all_gather_objects


def require_equal_data(experiment: Experiment) -> None:
    """Raise UserError that names the ranks whose shards, manifests, labels or other inputs are not those of rank 0."""
    try:
        own = _data_digest(experiment)
    except (ValueError, OSError) as error:
        own = str(error)
    found = all_gather_objects((own, describe_node()))
    others = [f"rank {rank} ({node}): {one}" for rank, (one, node) in enumerate(found) if one != found[0][0]]
    if others:
        first = f"rank 0 ({found[0][1]}): {found[0][0]}"
        raise UserError(
            f"the ranks read other data={experiment.input.data} "
            "(shards, manifest, labels, vocabulary, subset or teacher): "
            f"{'; '.join([first, *others])}; copy the same files to all nodes, or name a shared folder"
        )


def _data_digest(experiment: Experiment) -> str:
    """Return a digest of all files that an experiment reads."""
    files = [folder / MANIFEST_NAME for folder in sorted({path.parent for path in data_files(experiment.input.data)})]
    files += [Path(experiment.input.caption_lengths)]
    captions = caption_files(experiment.input.data, experiment.input.caption)
    method = get_label_method(experiment.method)
    if method is not None:
        files += method.label_files(experiment, captions)
    digests = inputs_digest(experiment), files_digest(path for path in files if path.is_file())
    return sha256("".join(digests).encode()).hexdigest()[:16]
