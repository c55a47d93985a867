"""The shipped pack equals its manifest, and every file in it has a licence."""

import gzip
import json
import re
import tarfile
from pathlib import Path

import pytest

from bench.data.manifest import PACK, verify_pack

FILES = json.loads((PACK / "manifest.json").read_text(encoding="utf-8"))["files"]
SHARDS = sorted(name for name in FILES if name.endswith(".tar.gz"))
LICENCES_OF_PRETRAINING = {"Apache-2.0", "MIT", "CC-BY-4.0", "public domain (CC PublicDomain dedication)"}


def members(shard: str) -> list[str]:
    with tarfile.open(PACK / shard, "r:gz") as tar:
        return tar.getnames()


def texts(shard: str) -> list[dict]:
    with tarfile.open(PACK / shard, "r:gz") as tar:
        return [json.loads(tar.extractfile(member).read()) for member in tar if member.name.endswith(".json")]


def test_every_file_matches_the_manifest():
    verify_pack()
    assert all((PACK / name).stat().st_size == facts["bytes"] for name, facts in FILES.items())


def test_no_data_file_is_outside_the_manifest():
    present = {path.relative_to(PACK).as_posix() for path in PACK.rglob("*") if path.is_file()}
    aside = {name for name in present if name.startswith("licences/")} | {"NOTICE.md", "manifest.json"}
    assert present - aside == set(FILES)


@pytest.mark.parametrize("shard", SHARDS)
def test_image_and_text_are_adjacent_members(shard):
    names = members(shard)
    images, companions = names[::2], names[1::2]
    assert len(set(names)) == len(names)
    assert [name.rpartition(".")[0] + ".json" for name in images] == companions
    assert {Path(name).suffix for name in images} <= {".webp", ".png"}
    assert len(companions) == FILES[shard]["pairs"]


@pytest.mark.parametrize("shard", SHARDS)
def test_shard_holds_one_source_named_in_the_notice(shard):
    found = texts(shard)
    source = Path(shard).name.removesuffix(".tar.gz")
    assert {text["source"] for text in found} == {source}
    assert re.search(rf"^## {re.escape(source)}$", (PACK / "NOTICE.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert all(text["caption"] for text in found)


@pytest.mark.parametrize("shard", [name for name in SHARDS if name.startswith("pretrain/")])
def test_pretraining_shard_has_one_permissive_licence(shard):
    licences = {text["licence"] for text in texts(shard)}
    assert len(licences) == 1
    assert licences <= LICENCES_OF_PRETRAINING


def test_every_furniture_model_names_its_author():
    assert all(text["label"]["author"] for text in texts("transfer/sweethome3d.tar.gz"))


def test_the_notice_names_every_photo_and_every_licence_text():
    notice = (PACK / "NOTICE.md").read_text(encoding="utf-8")
    photos = {Path(name).name for name in FILES if name.endswith(".webp")}
    assert set(re.findall(r"^\| `(bg\d\d\.webp)` \|", notice, re.MULTILINE)) == photos
    named = set(re.findall(r"`licences/([^`]+)`", notice))
    assert named == {path.name for path in (PACK / "licences").iterdir()}


@pytest.mark.parametrize("table", sorted(name for name in FILES if name.endswith(".tsv.gz")))
def test_tables_are_sorted_by_word(table):
    rows = gzip.decompress((PACK / table).read_bytes()).decode().split("\n")
    words = [row.split("\t")[0] for row in rows]
    assert len(rows) == FILES[table]["rows"]
    assert words == sorted(set(words))
