"""The builder of the pack, on small packages made here. SVG is drawn by a stand-in, because resvg is an extra."""

import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bench.data.manifest import PACK
from bench.labels.vocabulary import read_vocabulary
from tests.pack import clip_art, emoji
from tests.pack.build_pack import DEBIAN, PUNKT, build
from tests.pack.emoji import LICENCES
from tests.pack.shards import SIDE, Pair, write_shard
from tests.pack.transfer_images import (
    FURNITURE_LICENCES,
    PHOTOS,
    silhouette_pairs,
    write_backgrounds,
)
from tests.pack.vocabularies import RULES, shipped_vocabulary
from tests.pack.word_tables import write_punkt_parameters, write_wordnet_tables

SQUARE = '<path fill="#00f" d="M4 4h8v8H4z"/>'
SVG_HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="d" xmlns:cc="c" xmlns:rdf="r" width="16" height="16">'
ANIMALS = "animals/animal_mnist/data/Animal_MNIST"


def drawing(size=(40, 20), box=(5, 2, 30, 18), colour=(255, 0, 0, 255), ground=(0, 0, 0, 0)):
    image = Image.new("RGBA", size, ground)
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    return image


def pair(key, image=None, **fields):
    return Pair(key, image or drawing(), **{"caption": "a cat", "licence": "MIT"} | fields)


def unpack(path):
    with tarfile.open(path, "r:gz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def metadata(
    title="",
    description="",
    author="",
    keywords=(),
    licence="http://web.resource.org/cc/PublicDomain",
):
    words = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return (
        f'<metadata><dc:title xml:x="">{title}</dc:title><dc:description>{description}</dc:description>'
        f"<dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject>"
        f"<dc:creator><cc:Agent><dc:title>{author}</dc:title></cc:Agent></dc:creator>"
        f'<cc:license rdf:resource="{licence}"/></metadata>'
    )


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder with small packages of all sources."""
    for module in (emoji, clip_art):
        monkeypatch.setattr(
            module, "render_svg", lambda svg: drawing(box=(0, 0, len(svg) % 30 + 3, 15))
        )
    folder = tmp_path / "sources"
    add_emoji(folder / "node_modules")
    add_clip_art(folder / DEBIAN / "openclipart/svg")
    add_furniture(folder / DEBIAN / "sweethome3d/furniture")
    add_silhouettes(folder / ANIMALS)
    add_wordnet(folder / DEBIAN / "wordnet")
    add_punkt(folder / PUNKT)
    return folder


def add_emoji(npm):
    """Two emoji, a flag, a skin tone and a letter, drawn by all vendors, and an icon set."""
    entries = [
        {
            "hexcode": "1F41F",
            "label": "fish",
            "tags": ["Fish", "pisces", "zodiac", "><>", "animal", "sea"],
            "group": 3,
        },
        {"hexcode": "2764-FE0F", "label": "red heart", "tags": ["heart", "love"], "group": 0},
        {"hexcode": "1F3F4", "label": "cat flag", "group": 9},
        {"hexcode": "1F3FB", "label": "light skin tone", "group": 2},
        {"hexcode": "1F1E6", "label": "regional indicator A"},
    ]
    write_json(
        npm / "emojibase-data/en/data.json",
        [entry | {"subgroup": entry.get("group")} for entry in entries],
    )
    keys = [{"order": 0, "key": "smileys"}, {"order": 3, "key": "animals"}]
    write_json(npm / "emojibase-data/en/messages.json", {"groups": keys, "subgroups": keys})
    icons = {
        name: {"body": SQUARE} for name in ("fish", "heart-drawn", "cat-flag", "light-skin-tone")
    }
    aliases = {"red-heart": {"parent": "heart-drawn"}, "lost": {"parent": "nowhere"}}
    for vendor in LICENCES:
        write_json(
            npm / "@iconify-json" / vendor / "icons.json", {"icons": icons, "aliases": aliases}
        )
        write_json(
            npm / "@iconify-json" / vendor / "chars.json",
            {"1f41f": "fish", "1f3fb": "light-skin-tone"},
        )
    flat = {
        "icons": {
            "alarm-clock": {"body": SQUARE},
            "sorting-12": {"body": SQUARE},
            "old": {"hidden": True},
        }
    }
    write_json(npm / "@iconify-json/flat-color-icons/icons.json", flat)
    renders = npm / "@lobehub/fluent-emoji-3d/assets"
    renders.mkdir(parents=True)
    for stem in ("1f41f", "2764", "1f3f4", "1f4a9"):
        drawing().save(renders / f"{stem}.webp", lossless=True)


def add_clip_art(folder):
    """Two drawings to keep, a repeat, one under the GPL and one of a series of figures."""
    other = SQUARE.replace("8v8", "9v8")
    bodies = {
        "animals/fish/Red Fish.svg": metadata("Red fish") + SQUARE,
        "animals/repeat.svg": metadata("Again") + SQUARE,
        "animals/gpl.svg": metadata("Mine", licence="http://www.gnu.org/licenses/gpl.html") + other,
        "shapes/stars/star.svg": metadata("Star") + other,
        "tools/saw.svg": metadata("Saw") + other + other,
    }
    for name, body in bodies.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{SVG_HEAD}{body}</svg>", encoding="utf-8")


def add_furniture(folder):
    """The five catalogues, of one chair each; the first has a lamp before it, numbered 10."""
    folder.mkdir(parents=True)
    icon = io.BytesIO()
    drawing().save(icon, "PNG")
    chair = "name#2=Chair\ntags#2=Scopia, Seat\ncategory#2=Office\nicon#2=/a/chair.png\n"
    lamp = "name#10=Lamp\ntags#10=\ncategory#10=Lights\nicon#10=/a/chair.png\ncreator#10=Ann\n"
    for catalogue in FURNITURE_LICENCES:
        properties = f"id=x\n{lamp if catalogue == 'BlendSwap-CC-0' else ''}{chair}"
        with zipfile.ZipFile(folder / f"{catalogue}.sh3f", "w") as archive:
            archive.writestr("a/chair.png", icon.getvalue())
            archive.writestr("PluginFurnitureCatalog.properties", properties)


def add_silhouettes(folder):
    """Five silhouettes; the last repeats the first."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    images[4] = images[0]
    for name, array in {"data": images, "label": np.array([0, 3, 9, 1, 0])}.items():
        with gzip.open(folder / f"animal_{name}_version_3.gz", "wb") as file:
            pickle.dump(array, file, protocol=4)


def add_wordnet(folder):
    """Four nouns: `hotdog` and `Rex` share a synset that bears the name of the first."""
    folder.mkdir(parents=True)
    licence = "  1 This database is free.  \n"
    synsets = [
        (99, "hot_dog", "001 @ 00001740 n 0000"),
        (1740, "dog", "000"),
        (2137, "Hotdog", "003 ~ 00000099 n 0000 @i 00000099 n 0000 @ 00001740 n 0000"),
    ]
    data = "".join(
        f'{offset:08d} 05 n 02 {word} 0 Rex 0 {pointers} | a {word}; or two; "use | of it"  \n'
        for offset, word, pointers in synsets
    )
    index = (
        "dog n 2 1 @ 2 1 00001740 00002137  \n"
        "hot_dog n 1 0 1 0 00000099  \n"
        "hotdog n 1 0 1 0 00002137  \n"
        "rex n 1 0 1 0 00002137  \n"
    )
    (folder / "data.noun").write_text(licence + data, encoding="utf-8")
    (folder / "index.noun").write_text(licence + index, encoding="utf-8")
    counts = (
        "dog%1:05:00:: 1 2\ndog%3:00:00:: 1 1\ndog%5:00:00:wild:00 2 2\n"
        "hotdog%5:00:00:a:00 1 1\nhotdog%1:13:00:: 1 1\nrex%3:00:00:: 1 9\n"
    )
    (folder / "cntlist.rev").write_text(counts, encoding="utf-8")
    (folder / "noun.exc").write_text("oxen ox\nbrethren brother brethren\n", encoding="utf-8")


def add_punkt(folder):
    """A model that has seen `go` begin sentences in lower case only, `stop` also with a capital."""
    folder.mkdir(parents=True)
    (folder / "abbrev_types.txt").write_text("u.s\ndr")
    (folder / "collocations.tab").write_text("j\taron\nb\twigton")
    (folder / "ortho_context.tab").write_text("go\t48\nstop\t50\ninside\t32")


def test_pack_is_built_reproducibly(sources, tmp_path):
    build(sources, tmp_path / "pack")
    build(sources, tmp_path / "again")
    manifest = json.loads((tmp_path / "pack/manifest.json").read_text(encoding="utf-8"))
    shipped = json.loads((PACK / "manifest.json").read_text(encoding="utf-8"))
    assert list(manifest["files"]) == list(shipped["files"])
    assert manifest["files"]["transfer/silhouettes.tar.gz"]["pairs"] == 4
    assert manifest["files"]["wordnet30-nouns.tsv.gz"]["rows"] == 4
    for name in [*manifest["files"], "manifest.json"]:
        assert (tmp_path / "pack" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_shard_holds_each_image_followed_by_its_text(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    label = {"category": "pets"}
    pairs = [
        pair("b", caption="café, cat", label=label),
        pair("a", Image.fromarray(grey)),
        pair("a"),
        pair("a"),
    ]
    write_shard(tmp_path, "zoo", pairs)
    content = unpack(tmp_path / "zoo.tar.gz")
    assert list(content)[:4] == ["zoo-b.webp", "zoo-b.json", "zoo-a.png", "zoo-a.json"]
    assert list(content)[4::2] == ["zoo-a-b.webp", "zoo-a-b-b.webp"]  # webdataset groups by key
    text = {"caption": "café, cat", "source": "zoo", "licence": "MIT", "label": label}
    assert json.loads(content["zoo-b.json"]) == text
    assert "label" not in json.loads(content["zoo-a.json"])
    assert (np.asarray(Image.open(io.BytesIO(content["zoo-a.png"]))) == grey).all()
    image = Image.open(io.BytesIO(content["zoo-b.webp"]))
    assert (image.format, image.size, image.mode) == ("WEBP", (SIDE, SIDE), "RGBA")


def test_pickle_of_anything_but_arrays_is_refused(sources):
    with gzip.open(sources / ANIMALS / "animal_data_version_3.gz", "wb") as file:
        pickle.dump(print, file)
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print is no part of an array"):
        list(silhouette_pairs(sources / ANIMALS))


def test_wordnet_tables_hold_the_nouns_and_the_synsets_that_bear_their_name(sources, tmp_path):
    write_wordnet_tables(sources / DEBIAN / "wordnet", tmp_path)
    nouns = gzip.decompress((tmp_path / "wordnet30-nouns.tsv.gz").read_bytes()).decode()
    exceptions = gzip.decompress((tmp_path / "wordnet30-noun-exc.tsv.gz").read_bytes()).decode()
    adjectives = gzip.decompress((tmp_path / "wordnet30-adjectives.tsv.gz").read_bytes()).decode()
    glosses = lzma.decompress((tmp_path / "wordnet30-glosses.tsv.xz").read_bytes()).decode()
    hypernyms = lzma.decompress((tmp_path / "wordnet30-hypernyms.tsv.xz").read_bytes()).decode()
    assert nouns == "dog\t1740\nhot_dog\t99\nhotdog\t2137\nrex"
    assert exceptions == "brethren\tbrother brethren\noxen\tox"
    assert adjectives == "dog\t3\t2"
    assert glosses == "99\ta hot_dog; or two\n1740\ta dog; or two\n2137\ta Hotdog; or two"
    assert hypernyms == "99\t1740\n1740\t\n2137\t99 1740"
    assert lzma.decompress((tmp_path / "wordnet30-senses.tsv.xz").read_bytes()).decode() == "2137"


def test_punkt_parameters_are_those_that_lower_case_text_needs(sources, tmp_path):
    write_punkt_parameters(sources / PUNKT, tmp_path)
    assert json.loads((tmp_path / "punkt-english.json").read_text()) == {
        "abbreviations": ["dr", "u.s"],
        "collocations": [["b", "wigton"], ["j", "aron"]],
        "lower-case starters": ["go"],
    }


def test_background_photos_look_as_shipped(tmp_path):
    write_backgrounds(tmp_path)
    for number, photo in enumerate(PHOTOS):
        name = f"bg{number:02d}.webp"
        made = np.asarray(Image.open(tmp_path / name)).astype(float)
        shipped = np.asarray(Image.open(PACK / "transfer" / name)).astype(float)
        # Of 255: encoders differ from version to version.
        assert np.abs(made - shipped).mean() < 2, photo.name


@pytest.mark.parametrize("name", RULES)
def test_shipped_vocabularies_are_counted_from_the_pack(name):
    assert read_vocabulary(name) == shipped_vocabulary(name)
