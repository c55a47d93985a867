"""What was trained here is loaded by open_clip and timm, and computes there what it computes here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image

from bench.__main__ import main
from bench.data.pack import PackImages
from bench.experiment.config import Experiment, change
from bench.interfaces.method import METHODS
from bench.towers.head_file import save_weights
from bench.towers.provenance import TowerProvenance, get_head_path
from bench.towers.tower_from import LoadedTower, load_tower
from bench.train.build import build_untrained_tower
from bench.train.loop import train
from bench.transfer.feature_extractor import make_tower_embedder
from bench.transfer.tasks.image_sources import EncodedImageSource
from models.image_tower import PIXEL_STATISTICS
from tests.data.shards import encode_image, make_image
from tests.scoring_images import eval_transform
from tests.small import small, two_blocks

CPU = torch.device("cpu")
Trained = Callable[[Experiment], Path]


@pytest.fixture(scope="module")
def trained(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train an experiment once, for two steps, and name its tower."""
    folder, done = tmp_path_factory.mktemp("trained"), dict[Experiment, Path]()

    def path(experiment: Experiment) -> Path:
        if experiment not in done:
            place = folder / f"c.tower.{len(done)}.safetensors"
            short = change(experiment, images_seen=32, warmup_images=0, subset="random:96")
            train(
                short, CPU, results, {"equal images": short.training.images_seen}, lambda _: place
            )
            done[experiment] = place
        return done[experiment]

    return path


def exported(tower: Path, out: Path) -> str:
    """Export by the command line; return the folder."""
    assert main(["export", str(tower), "--out", str(out)]) == 0
    return f"local-dir:{out}"


def transformed(images: PackImages, side: int = 48) -> torch.Tensor:
    return eval_transform(images.premultiplied_rgba[:20], side)


@torch.no_grad()
def features(known: LoadedTower, shown: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = known.tower.eval()(shown)
    return found


@pytest.mark.parametrize("method", [name for name, one in METHODS.items() if one.compares_batch])
def test_open_clip_loads_an_exported_dual_encoder_with_its_tokenizer(
    method: str, trained: Trained, images: PackImages, tmp_path: Path
) -> None:
    """Features of images and captions, scale and bias; open_clip's ids are not the vocabulary's."""
    path = trained(two_blocks(method))
    name = exported(path, tmp_path / "out")
    model: Any = open_clip.create_model(name).eval()
    known, captions = load_tower(str(path)), tuple(images.captions[:20])
    encoder = known.read_text_encoder()
    assert encoder is not None
    pair = encoder.pair
    with torch.no_grad():
        image = F.normalize(features(known, transformed(images)) @ pair.projection, dim=-1)
        torch.testing.assert_close(
            model.encode_image(transformed(images), normalize=True), image, rtol=1e-4, atol=1e-5
        )
        ids = open_clip.get_tokenizer(name)(list(captions))
        text = encoder.encode(captions)
        torch.testing.assert_close(
            model.encode_text(ids, normalize=True), text, rtol=1e-4, atol=1e-5
        )
    assert model.logit_scale == pair.log_scale
    assert pair.bias is None or model.logit_bias == pair.bias


def test_prompt_ensemble_equals_open_clips_zero_shot_classifier(
    trained: Trained, tmp_path: Path
) -> None:
    """With all subwords, because open_clip's tokenizer leaves none out."""
    path = trained(two_blocks("clip", subword_vocabulary="all"))
    names = ["dog", "tree frog", "kitchen"]
    name = exported(path, tmp_path / "out")
    model: Any = open_clip.create_model(name).eval()
    encoder = load_tower(str(path)).read_text_encoder()
    assert encoder is not None
    expected = open_clip.build_zero_shot_classifier(
        model, open_clip.get_tokenizer(name), names, open_clip.OPENAI_IMAGENET_TEMPLATES
    )
    prompts = [
        tuple(template(one) for template in open_clip.OPENAI_IMAGENET_TEMPLATES) for one in names
    ]
    found = encoder.encode_classes(prompts)
    torch.testing.assert_close(found.T, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "normalisation"),
    [("catlip", "openai"), ("superclass", "openai"), ("catlip", "none")],
)
def test_open_clip_loads_an_exported_image_tower(
    method: str, normalisation: str, trained: Trained, images: PackImages, tmp_path: Path
) -> None:
    """With the pooling of its training, and the mean and deviation that its configuration names."""
    path = trained(two_blocks(method, pixel_normalisation=normalisation))
    model: Any = open_clip.create_model(exported(path, tmp_path / "out")).eval()
    ours, theirs = (
        torch.tensor(values).view(2, 3, 1, 1)
        for values in (
            PIXEL_STATISTICS["openai"],
            (model.visual.preprocess_cfg["mean"], model.visual.preprocess_cfg["std"]),
        )
    )
    with torch.no_grad():
        found = model.encode_image(
            (transformed(images) * ours[1] + ours[0] - theirs[0]) / theirs[1]
        )
    torch.testing.assert_close(
        found, features(load_tower(str(path)), transformed(images)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("method", ["clip", "superclass"])
def test_open_clip_loads_its_timm_towers(
    method: str, trained: Trained, images: PackImages, tmp_path: Path
) -> None:
    """The projection of a pair is a layer of its head."""
    side = 160
    path = trained(two_blocks(method, tower="small-timm", image_size=side))
    known = load_tower(str(path))
    expected, encoder = features(known, transformed(images, side)), known.read_text_encoder()
    model: Any = open_clip.create_model(exported(path, tmp_path / "out")).eval()
    with torch.no_grad():
        found = model.encode_image(transformed(images, side), normalize=encoder is not None)
    if encoder is not None:
        expected = F.normalize(expected @ encoder.pair.projection, dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "tower"),
    [
        ("catlip", "test_vit"),
        ("superclass", "test_vit"),
        ("superclip", "vit_tiny_patch16_dinov3_qkvb"),
    ],
)
def test_timm_loads_an_exported_timm_tower(
    method: str, tower: str, trained: Trained, images: PackImages, tmp_path: Path
) -> None:
    path = trained(two_blocks(method, tower=tower))
    model = timm.create_model(exported(path, tmp_path / "out"), pretrained=True).eval()
    with torch.no_grad():
        found = model(transformed(images))
    torch.testing.assert_close(
        found, features(load_tower(str(path)), transformed(images)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("tower", ["catlip-bench-tiny", "test_vit"])
def test_scoring_and_an_exported_tower_show_an_image_alike(
    tower: str, trained: Trained, tmp_path: Path
) -> None:
    """The images are not square. Pillow, which both libraries resize with, rounds otherwise than torchvision."""
    path = trained(two_blocks("catlip", tower=tower))
    files = list[Path]()
    for number in range(8):
        image = make_image(number, *((90, 60) if number % 2 else (56, 120)))
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(encode_image(image, "PNG"))
    scored = torch.from_numpy(
        make_tower_embedder(load_tower(str(path)).tower, CPU)(EncodedImageSource(files))
    )
    name = exported(path, tmp_path / "out")
    if tower == "test_vit":
        model = timm.create_model(name, pretrained=True).eval()
        shown = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    else:
        model, _, shown = open_clip.create_model_and_transforms(name)
    with Image.open(files[0]) as first, torch.no_grad():
        assert shown(first.convert("RGB")).shape[1:] == (48, 48)
        loaded = torch.stack([shown(Image.open(file).convert("RGB")) for file in files])
        found = model.eval()(loaded) if tower == "test_vit" else model.eval().encode_image(loaded)
    assert F.cosine_similarity(scored, found).min() > 0.9995


def save_untrained(experiment: Experiment, path: Path) -> None:
    facts = TowerProvenance(experiment=experiment, images=1, budgets=()).to_metadata()
    save_weights(build_untrained_tower(experiment).state_dict(), path, facts)


def test_tower_that_neither_library_builds_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.safetensors"
    save_untrained(two_blocks("catlip", tower="corenet-vit-tiny"), path)
    assert main(["export", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "has a CorenetViT, which is not exported" in capsys.readouterr().err


def test_a_teacher_is_not_kept_beside_its_student(trained: Trained) -> None:
    path = trained(small("distill"))
    assert get_head_path(path).stat().st_size < path.stat().st_size / 4
