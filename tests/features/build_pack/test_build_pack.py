"""The builder of the pack, on small packages made here; one file, for the whole is built from the parts' packages."""

import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bench.features.build_pack.__main__ import Options, main, rebuild
from bench.features.build_pack.language_tables import write_punkt_parameters, write_wordnet_tables
from bench.features.build_pack.pretrain_images import (
    EmojiTexts,
    IconSet,
    caption,
    emoji_pairs,
    icon_pairs,
    openclipart_pairs,
)
from bench.features.build_pack.shards import (
    MIN_ALPHA,
    SIDE,
    Pair,
    count_pairs,
    crop_and_fit_square,
    data_files,
    write_pack_shard,
)
from bench.features.build_pack.transfer_images import (
    ANIMALS,
    FURNITURE_LICENCES,
    PHOTOS,
    furniture_pairs,
    silhouette_pairs,
    write_backgrounds,
)
from bench.features.build_pack.vocabularies import SHIPPED_VOCABULARIES, shipped_vocabulary
from bench.labels.vocabulary import read_vocabulary

PACK = Path(__file__).parents[3] / "bench" / "data" / "pack"
FISH, RED_HEART, CAT_FLAG, TONE = "1F41F", "2764-FE0F", "1F3F4", "1F3FB"
SQUARE = '<path fill="#00f" d="M4 4h8v8H4z"/>'


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


# ---- images


@pytest.mark.parametrize("box", [(5, 2, 30, 18), (0, 0, 39, 19), (10, 3, 14, 17), (3, 3, 5, 5)])
def test_crop_and_centre_fills_the_square_up_to_the_margin(box):
    fitted = crop_and_fit_square(drawing(box=box))
    left, top, right, bottom = fitted.getchannel("A").getbbox()
    assert (fitted.size, fitted.mode) == ((SIDE, SIDE), "RGBA")
    assert max(right - left, bottom - top) == 60  # 3 % of the side are left free on either hand
    assert abs(left - (SIDE - right)) <= 1
    assert abs(top - (SIDE - bottom)) <= 1


def test_crop_and_centre_keeps_the_aspect_ratio():
    left, top, right, bottom = crop_and_fit_square(drawing(box=(0, 0, 29, 9))).getchannel("A").getbbox()
    assert (right - left, bottom - top) == (60, 20)


def test_crop_and_centre_leaves_the_rest_transparent():
    ring = drawing(size=(60, 60), box=(0, 0, 59, 59))
    ImageDraw.Draw(ring).rectangle((20, 20, 39, 39), fill=(0, 0, 0, 0))
    alpha = np.asarray(crop_and_fit_square(ring).getchannel("A"))
    assert alpha[SIDE // 2, SIDE // 2] == 0
    assert alpha[0].max() == alpha[:, 0].max() == alpha[-1].max() == alpha[:, -1].max() == 0
    assert alpha[6, 6] == 255


def test_crop_and_centre_bleeds_no_transparent_colour_into_the_edge():
    fitted = np.asarray(crop_and_fit_square(drawing(size=(300, 300), box=(31, 57, 201, 288), ground=(0, 255, 0, 0))))
    visible = fitted[fitted[..., 3] > 32]
    assert visible[:, 1:3].max() == 0
    assert visible[:, 0].min() >= 250


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (20, 20)),
        Image.new("RGBA", (20, 20), (255, 0, 0, MIN_ALPHA)),
        drawing(box=(3, 3, 3, 15)),
    ],
    ids=["empty", "faint", "line"],
)
def test_crop_and_centre_returns_none_for_a_blank_image(image):
    assert crop_and_fit_square(image) is None


def test_render_svg_needs_neither_namespace_nor_fonts():
    pytest.importorskip("resvg_py", reason="resvg-py (extra `pack`) draws SVG")
    from bench.features.build_pack.shards import render_svg

    assert render_svg(f'<svg width="16pt" height="16pt" viewBox="0 0 16 16">{SQUARE}</svg>').size == (128, 128)
    text = '<svg width="16" height="16"><text y="12">cat</text></svg>'
    assert render_svg(text).getchannel("A").getbbox() is None
    with pytest.raises(ValueError, match=r"."):
        render_svg("no drawing")


# ---- shards


def test_equal_pairs_give_byte_equal_shards(tmp_path, monkeypatch):
    for name, now in {"one.tar.gz": 1e9, "two.tar.gz": 2e9}.items():
        monkeypatch.setattr("time.time", lambda now=now: now)
        write_pack_shard(tmp_path / name, "zoo", [pair("a"), pair("b", drawing(box=(0, 0, 9, 9)))])
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def test_shard_holds_each_image_followed_by_its_text(tmp_path):
    label = {"category": "pets"}
    write_pack_shard(tmp_path / "s.tar.gz", "zoo", [pair("b", caption="café, cat", label=label), pair("a")])
    content = unpack(tmp_path / "s.tar.gz")
    assert list(content) == ["zoo-b.webp", "zoo-b.json", "zoo-a.webp", "zoo-a.json"]
    assert json.loads(content["zoo-b.json"]) == {
        "caption": "café, cat",
        "source": "zoo",
        "licence": "MIT",
        "label": label,
    }
    assert "label" not in json.loads(content["zoo-a.json"])
    image = Image.open(io.BytesIO(content["zoo-b.webp"]))
    assert (image.format, image.size, image.mode) == ("WEBP", (SIDE, SIDE), "RGBA")


def test_equal_keys_get_distinct_names(tmp_path):
    write_pack_shard(tmp_path / "s.tar.gz", "zoo", [pair("a"), pair("a"), pair("a-b"), pair("a")])
    names = [name for name in unpack(tmp_path / "s.tar.gz") if name.endswith(".json")]
    assert names == ["zoo-a.json", "zoo-a-b.json", "zoo-a-b-b.json", "zoo-a-b-b-b.json"]


def test_blank_images_are_dropped_and_counted(tmp_path):
    pairs = [pair("a"), pair("b", Image.new("RGBA", (9, 9))), pair("c")]
    assert write_pack_shard(tmp_path / "s.tar.gz", "zoo", pairs) == 1
    assert count_pairs(tmp_path / "s.tar.gz") == 2


def test_grey_images_are_stored_losslessly(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    write_pack_shard(tmp_path / "s.tar.gz", "zoo", [pair("a", Image.fromarray(grey))])
    kept = Image.open(io.BytesIO(unpack(tmp_path / "s.tar.gz")["zoo-a.png"]))
    assert (np.asarray(kept) == grey).all()


# ---- sources


@pytest.fixture
def npm(tmp_path):
    """A node_modules of two emoji, a flag and a skin tone, drawn by two vendors, and an icon set."""
    root = tmp_path / "node_modules"
    emoji = [
        {"hexcode": FISH, "label": "fish", "tags": ["Fish", "pisces", "zodiac", "><>", "animal", "sea"], "group": 3},
        {"hexcode": RED_HEART, "label": "red heart", "tags": ["heart", "love"], "group": 0},
        {"hexcode": CAT_FLAG, "label": "cat flag", "group": 9},
        {"hexcode": TONE, "label": "light skin tone", "group": 2},
        {"hexcode": "1F1E6", "label": "regional indicator A"},
    ]
    write_json(root / "emojibase-data/en/data.json", [one | {"subgroup": one.get("group")} for one in emoji])
    keys = [{"order": 0, "key": "smileys"}, {"order": 3, "key": "animals"}]
    write_json(root / "emojibase-data/en/messages.json", {"groups": keys, "subgroups": keys})
    icons = {name: {"body": SQUARE} for name in ("fish", "heart-drawn", "cat-flag", "light-skin-tone")}
    noto = {"icons": icons, "aliases": {"red-heart": {"parent": "heart-drawn"}, "lost": {"parent": "nowhere"}}}
    write_json(root / "@iconify-json/noto/icons.json", noto)
    write_json(root / "@iconify-json/noto/chars.json", {"1f41f": "fish", "1f3fb": "light-skin-tone"})
    flat = {"icons": {"alarm-clock": {"body": SQUARE}, "sorting-12": {"body": SQUARE}, "old": {"hidden": True}}}
    write_json(root / "@iconify-json/flat-color-icons/icons.json", flat)
    renders = root / "@lobehub/fluent-emoji-3d/assets"
    renders.mkdir(parents=True)
    for stem in ("1f41f", "2764", "1f3f4", "1f4a9"):
        drawing().save(renders / f"{stem}.webp", lossless=True)
    return root


def test_an_emoji_caption_is_its_name_and_new_keywords(npm):
    texts = EmojiTexts(npm)
    assert texts.caption(RED_HEART, "noto") == "red heart, love"
    drawn = {texts.caption(FISH, vendor) for vendor in "abcdefgh"}
    assert len(drawn) > 1, "vendors draw their own keywords"
    for one in drawn:
        name, *keywords = one.split(", ")
        assert name == "fish"
        assert 1 <= len(keywords) <= 4
        assert set(keywords) <= {"pisces", "zodiac", "animal", "sea"}, "neither the name again nor an emoticon"
    assert texts.caption(FISH, "a") == EmojiTexts(npm).caption(FISH, "a")


def test_renders_are_found_by_code_points_without_flags_and_strangers(npm):
    fish, heart = emoji_pairs(npm, "fluent-3d")
    assert (fish.key, heart.key) == ("1f41f", "2764-fe0f")
    assert (fish.licence, heart.caption) == ("MIT", "red heart, love")
    assert fish.label == {"concept": "fish", "group": "animals", "subgroup": "animals"}


def test_icons_are_found_by_code_points_by_name_and_by_alias(npm):
    pytest.importorskip("resvg_py", reason="resvg-py (extra `pack`) draws SVG")
    fish, heart = emoji_pairs(npm, "noto")
    assert (fish.key, heart.key) == ("1f41f", "2764-fe0f")
    assert fish.licence == "Apache-2.0"
    assert fish.image.getpixel((64, 64)) == (0, 0, 255, 255)


def test_alias_without_target_is_ignored(npm):
    names = IconSet(npm / "@iconify-json/noto").names
    assert names["red-heart"] == "heart-drawn"
    assert "lost" not in names


def test_icons_are_captioned_by_their_names(npm):
    pytest.importorskip("resvg_py", reason="resvg-py (extra `pack`) draws SVG")
    (clock,) = icon_pairs(npm / "@iconify-json/flat-color-icons", "MIT")
    assert (clock.key, clock.caption, clock.label) == ("alarm-clock", "alarm clock", {})


def metadata(title="", description="", author="", keywords=(), licence="http://web.resource.org/cc/PublicDomain"):
    words = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return (
        f'<metadata><dc:title xml:x="">{title}</dc:title><dc:description>{description}</dc:description>'
        f"<dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject>"
        f"<dc:creator><cc:Agent><dc:title>{author}</dc:title></cc:Agent></dc:creator>"
        f'<cc:license rdf:resource="{licence}"/></metadata>'
    )


@pytest.mark.parametrize(
    ("fields", "stem", "expected"),
    [
        ({"title": "Elefante", "keywords": ["mammal", "clipart", "Mammal"]}, "x", "Elefante, mammal"),
        ({"title": "Tom &amp; cat_2", "description": "two  friends"}, "x", "Tom & cat, two friends"),
        ({"title": "untitled", "keywords": ["sea"]}, "blue_fish_01", "blue fish, sea"),
        ({"author": "Nicolas Clement"}, "old_phone_nicolas_clement_01", "old phone"),
        ({"description": "see http://example.org"}, "red-apple", "red apple"),
        ({"title": "Fish", "description": "fish"}, "x", "Fish"),
        ({"title": "Fish", "keywords": list("abcdefgh")}, "x", "Fish, a, b, c, d, e, f"),
    ],
)
def test_a_clip_art_caption_is_title_description_and_keywords(fields, stem, expected):
    assert caption(metadata(**fields), stem) == expected


def test_clip_art_without_dedication_duplicates_and_series_are_left_out(tmp_path):
    pytest.importorskip("resvg_py", reason="resvg-py (extra `pack`) draws SVG")
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="d" xmlns:cc="c" xmlns:rdf="r" width="16" height="16">'
    other = SQUARE.replace("8v8", "9v8")
    files = {
        "animals/fish/Red Fish.svg": metadata("Red fish") + SQUARE,
        "animals/repeat.svg": metadata("Again") + SQUARE,
        "animals/gpl.svg": metadata("Mine", licence="http://www.gnu.org/licenses/gpl.html") + other,
        "shapes/stars/star.svg": metadata("Star") + other,
        "tools/saw.svg": metadata("Saw") + other + other,
    }
    for name, body in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{head}{body}</svg>", encoding="utf-8")
    fish, saw = openclipart_pairs(tmp_path)
    assert (fish.key, fish.caption) == ("animals-fish-red-fish", "Red fish")
    assert fish.label == {"category": "animals", "subcategory": "animals/fish"}
    assert saw.label == {"category": "tools", "subcategory": "tools"}


@pytest.fixture
def furniture(tmp_path):
    """The five catalogues, of one chair each; the first has a lamp before it, numbered 10."""
    folder = tmp_path / "furniture"
    folder.mkdir()
    icon = io.BytesIO()
    drawing().save(icon, "PNG")
    chair = "name#2=Chair\ntags#2=Scopia, Seat\ncategory#2=Office\nicon#2=/a/chair.png\n"
    lamp = "name#10=Lamp\ntags#10=\ncategory#10=Lights\nicon#10=/a/chair.png\ncreator#10=Ann\n"
    for catalogue in FURNITURE_LICENCES:
        with zipfile.ZipFile(folder / f"{catalogue}.sh3f", "w") as archive:
            archive.writestr("a/chair.png", icon.getvalue())
            properties = f"id=x\n{lamp if catalogue == 'BlendSwap-CC-0' else ''}{chair}"
            archive.writestr("PluginFurnitureCatalog.properties", properties)
    return folder


def test_furniture_keeps_licence_and_author(furniture):
    pairs = list(furniture_pairs(furniture))
    assert [one.key for one in pairs[:3]] == ["blendswap-cc-0-2", "blendswap-cc-0-10", "blendswap-cc-by-2"]
    assert [one.licence for one in pairs[:3]] == ["CC0-1.0", "CC0-1.0", "CC-BY-3.0"]
    assert [one.caption for one in pairs[:2]] == ["chair, seat", "lamp"]
    assert pairs[0].label == {"category": "Office", "author": "BlendSwap-CC-0"}
    assert pairs[1].label == {"category": "Lights", "author": "Ann"}


@pytest.fixture
def animals(tmp_path):
    """Five silhouettes; the last repeats the first."""
    folder = tmp_path / "animals"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    images[4] = images[0]
    for name, array in {"data": images, "label": np.array([0, 3, 9, 1, 0])}.items():
        with gzip.open(folder / f"animal_{name}_version_3.gz", "wb") as file:
            pickle.dump(array, file, protocol=4)
    return folder


def test_silhouettes_are_sampled_without_duplicates(animals):
    pairs = list(silhouette_pairs(animals))
    assert sorted(one.key for one in pairs) == ["00000", "00001", "00002", "00003"]
    named = {one.key: one.caption for one in pairs}
    assert named == {"00000": "bear", "00001": "cow", "00002": "zebra", "00003": "bird"}
    assert [one.key for one in silhouette_pairs(animals, count=2)] == [one.key for one in pairs[:2]]
    assert set(named.values()) <= set(ANIMALS)


def test_a_pickle_of_anything_but_arrays_is_refused(animals):
    with gzip.open(animals / "animal_data_version_3.gz", "wb") as file:
        pickle.dump(print, file)
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print is no part of an array"):
        list(silhouette_pairs(animals))


@pytest.fixture
def wordnet(tmp_path):
    """Four nouns: `hotdog` and `Rex` share a synset that bears the name of the first."""
    folder = tmp_path / "wordnet"
    folder.mkdir()
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
    (folder / "noun.exc").write_text("oxen ox\nbrethren brother brethren\n", encoding="utf-8")
    return folder


def test_the_tables_hold_the_nouns_and_the_synsets_that_bear_their_name(wordnet, tmp_path):
    write_wordnet_tables(wordnet, tmp_path)
    nouns = gzip.decompress((tmp_path / "wordnet30-nouns.tsv.gz").read_bytes()).decode()
    exceptions = gzip.decompress((tmp_path / "wordnet30-noun-exc.tsv.gz").read_bytes()).decode()
    glosses = lzma.decompress((tmp_path / "wordnet30-glosses.tsv.xz").read_bytes()).decode()
    assert nouns == "dog\t1740\nhot_dog\t99\nhotdog\t2137\nrex"
    assert glosses == "99\ta hot_dog; or two\n1740\ta dog; or two\n2137\ta Hotdog; or two"
    assert exceptions == "brethren\tbrother brethren\noxen\tox"
    hypernyms = lzma.decompress((tmp_path / "wordnet30-hypernyms.tsv.xz").read_bytes()).decode()
    assert hypernyms == "99\t1740\n1740\t\n2137\t99 1740"
    assert lzma.decompress((tmp_path / "wordnet30-senses.tsv.xz").read_bytes()).decode() == "2137"


@pytest.fixture
def punkt(tmp_path):
    """A model that has seen `go` begin sentences in lower case only, `stop` also with a capital."""
    folder = tmp_path / "punkt"
    folder.mkdir()
    (folder / "abbrev_types.txt").write_text("u.s\ndr")
    (folder / "collocations.tab").write_text("j\taron\nb\twigton")
    (folder / "ortho_context.tab").write_text("go\t48\nstop\t50\ninside\t32")
    return folder


def test_the_parameters_of_punkt_are_those_that_lower_case_text_asks_for(punkt, tmp_path):
    write_punkt_parameters(punkt, tmp_path)
    assert json.loads((tmp_path / "punkt-english.json").read_text()) == {
        "abbreviations": ["dr", "u.s"],
        "collocations": [["b", "wigton"], ["j", "aron"]],
        "lower-case starters": ["go"],
    }


def test_background_photos_look_as_shipped(tmp_path):
    write_backgrounds(tmp_path)
    for number in range(len(PHOTOS)):
        made, shipped = (
            np.asarray(Image.open(folder / f"bg{number:02d}.webp")).astype(float)
            for folder in (tmp_path, PACK / "transfer")
        )
        assert np.abs(made - shipped).mean() < 2, PHOTOS[number]  # of 255: encoders differ from version to version


# ---- the whole


def test_pack_is_built_from_the_given_inputs_reproducibly(furniture, animals, wordnet, punkt, tmp_path, capsys):
    options = Options(out=tmp_path / "one", sweethome3d=furniture, animals=animals, wordnet=wordnet, punkt=punkt)
    rebuild(options)
    rebuild(replace(options, out=tmp_path / "two"))
    manifest = json.loads((tmp_path / "one/manifest.json").read_text(encoding="utf-8"))
    photos = [f"transfer/bg{number:02d}.webp" for number in range(11)]
    shards = ["transfer/silhouettes.tar.gz", "transfer/sweethome3d.tar.gz"]
    names = ("glosses.tsv.xz", "hypernyms.tsv.xz", "noun-exc.tsv.gz", "nouns.tsv.gz", "senses.tsv.xz")
    tables = [f"wordnet30-{name}" for name in names]
    assert (
        list(manifest["files"])
        == data_files(tmp_path / "one")
        == sorted([*photos, *shards, *tables, "punkt-english.json"])
    )
    assert [manifest["files"][shard]["pairs"] for shard in shards] == [4, 6]
    assert [manifest["files"][table]["rows"] for table in tables] == [3, 3, 2, 4, 1]
    for name in [*manifest["files"], "manifest.json"]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "skipped, because not given: --npm, --openclipart" in capsys.readouterr().err


def test_missing_inputs_are_named_before_anything_is_written(animals, tmp_path, capsys):
    (animals / "animal_label_version_3.gz").unlink()
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"missing inputs: \S*animal_label_version_3\.gz \(see"):
        rebuild(Options(out=out, animals=animals))
    assert not out.exists()
    assert main(["--out", str(out), "--animals", str(animals)]) == 2
    assert "animal_label_version_3.gz" in capsys.readouterr().err


def test_input_without_images_is_refused(npm, tmp_path):
    pytest.importorskip("resvg_py", reason="resvg-py (extra `pack`) draws SVG")
    with pytest.raises(ValueError, match="openclipart: no image found in"):
        rebuild(Options(out=tmp_path / "out", openclipart=npm))


@pytest.mark.parametrize("name", SHIPPED_VOCABULARIES)
def test_shipped_vocabularies_are_counted_from_the_pack(name):
    assert read_vocabulary(name) == shipped_vocabulary(name)
