"""Loader workers hand batches over in shared memory: too little of it is one line, before a run or within it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.__main__ import main
from bench.console.console import UserError
from bench.train.shared_memory import FOLDER, require_shared_memory
from tests.data.shards import write_shards
from tests.small import small

ROOT = Path(__file__).parents[2]
DOCKER = 64 * 2**20
ONE_BATCH_TOO_FEW = """
import sys
from pathlib import Path
from bench.console.console import UserError
from bench.data.shards.shards import open_shards
from bench.data.shards.stream import ShardStream
from bench.environment.cores import LoaderWorkers
from bench.method import methods
from tests.data.test_stream import CPU
from tests.small import small
if __name__ == "__main__":
    shards = open_shards(sys.argv[1], Path(sys.argv[1]) / "cache")
    loading = ShardStream(small("clip"), shards, methods()["clip"].targets, CPU, workers=LoaderWorkers(1, "a test"))
    try:
        loading.load(0)
    except UserError as error:
        print(error)
"""


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=free_bytes // 4096, f_frsize=4096))


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the system has no /dev/shm")
def test_batches_that_do_not_fit_into_shared_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, DOCKER)
    sizes = {"data": "shards", "batch_size": 128, "images": 128, "warmup_images": 0}
    large = small("clip", image_size=228, **sizes)
    text = r"9 batches of 1 x 4 loader workers need 17\d\.\d\d MiB of shared memory, /dev/shm has 64\.00 MiB free: "
    with pytest.raises(UserError, match=text):
        require_shared_memory(large, 4, 1)
    with pytest.raises(UserError, match="6 batches of 2 x 1 loader workers"):
        require_shared_memory(large, 1, 2)
    require_shared_memory(large, 1, 1)
    require_shared_memory(large, 0, 8)
    dense = small("catlip", image_size=32, label_format="dense", head_rows=24_320, **sizes)
    with pytest.raises(UserError, match="9 batches"):
        require_shared_memory(dense, 4, 1)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the system has no /dev/shm")
def test_small_shared_memory_is_one_line_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shards(tmp_path / "data")
    free(monkeypatch, 65536)
    settings = ["--set", f"data={data}", "--set", "workers=2", "--set", "subword_vocabulary=all"]
    assert main(["measure", "superclass-tiny", *settings, "--results", str(tmp_path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "of shared memory, /dev/shm has 0.06 MiB free: enlarge it (docker run --shm-size), or use fewer" in line


def test_batch_that_a_worker_cannot_hand_over_is_an_error_of_the_run(tmp_path: Path) -> None:
    data, script = write_shards(tmp_path / "data"), tmp_path / "load.py"
    script.write_text(ONE_BATCH_TOO_FEW)
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small /dev/shm needs root")
    done = subprocess.run(
        [*mount, sys.executable, str(script), str(data)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("a loader worker cannot hand over a batch (unable to allocate shared memory"), done.stderr
    assert line.endswith("or give the container more memory")
    assert "Traceback" not in done.stderr
