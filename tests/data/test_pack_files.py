"""The shipped pack equals its manifest, and every file in it has a licence."""

import json
import re
import tarfile
from pathlib import Path

import pytest

from bench.data.manifest import PACK, verify_pack

FILES = json.loads((PACK / "manifest.json").read_text(encoding="utf-8"))["files"]
SHARDS = sorted(name for name in FILES if name.endswith(".tar.gz"))
LICENCES_OF_PRETRAINING = {
    "Apache-2.0",
    "MIT",
    "CC-BY-4.0",
    "public domain (CC PublicDomain dedication)",
}


def test_every_file_matches_the_manifest():
    verify_pack()
    assert all((PACK / name).stat().st_size == facts["bytes"] for name, facts in FILES.items())


def test_no_data_file_is_outside_the_manifest():
    present = {path.relative_to(PACK).as_posix() for path in PACK.rglob("*") if path.is_file()}
    aside = {name for name in present if name.startswith("licences/")} | {
        "NOTICE.md",
        "manifest.json",
    }
    assert present - aside == set(FILES)


@pytest.mark.parametrize("shard", SHARDS)
def test_shard_holds_pairs_of_one_source_and_one_licence_that_the_notice_names(shard: str) -> None:
    with tarfile.open(PACK / shard, "r:gz") as tar:
        names, texts = [], []
        for member in tar:
            names.append(member.name)
            texts += (
                [json.loads(tar.extractfile(member).read())]
                if member.name.endswith(".json")
                else []
            )
    images, companions = names[::2], names[1::2]
    assert len(set(names)) == len(names)
    assert [name.rpartition(".")[0] + ".json" for name in images] == companions
    assert {Path(name).suffix for name in images} <= {".webp", ".png"}
    assert len(companions) == FILES[shard]["pairs"]
    source = Path(shard).name.removesuffix(".tar.gz")
    assert {text["source"] for text in texts} == {source}
    assert re.search(
        rf"^## {re.escape(source)}$", (PACK / "NOTICE.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert all(text["caption"] for text in texts)
    if shard.startswith("pretrain/"):
        (licence,) = {text["licence"] for text in texts}
        assert licence in LICENCES_OF_PRETRAINING
    if source == "sweethome3d":
        assert all(text["label"]["author"] for text in texts)


def test_the_notice_names_every_photo_and_every_licence_text():
    notice = (PACK / "NOTICE.md").read_text(encoding="utf-8")
    photos = {Path(name).name for name in FILES if name.endswith(".webp")}
    assert set(re.findall(r"^\| `(bg\d\d\.webp)` \|", notice, re.MULTILINE)) == photos
    named = set(re.findall(r"`licences/([^`]+)`", notice))
    assert named == {path.name for path in (PACK / "licences").iterdir()}
