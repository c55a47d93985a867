"""Published recipes, and a pair of one recipe that differs only in the method.

Sources: "yaml" is apple/corenet at 1aa3acd, `projects/clip/clip_vit_base.yaml`, `projects/range_augment/clip/
clip_vit_huge.yaml` and `projects/catlip/pretraining/vit_{base,large,huge}.yaml`; "paper" is CatLIP (Mehta et al. 2024,
arXiv 2404.15653), appendix, table 6. Where they differ, the recipe follows the yaml: CLIP's rate at ViT-B/16 is 1e-3
in the yaml, 5e-4 in the paper.

`batch_size` is per device; `images_seen` and `warmup_images` are of all published devices, for the steps of their
schedule. Image sizes are those that CoreNet's sampler makes of the yaml's range: 25 sizes from 128 to 320, rounded to
multiples of 16, are 13. Windows are this project's: each draws every image size equally often.

`catlip-bench list --authors-settings NAME` prints every released setting beside ours, from
bench/cli/released_recipes.toml.
"""

from bench.experiment.config import Experiment, change
from bench.experiment.fields import (
    ImageSettings,
    OptimizerSettings,
    RuntimeSettings,
    SampleSettings,
    TargetSettings,
    TextSettings,
    TimingSettings,
    TrainingSettings,
)

# Vocabulary of the released head; its labels are not shipped.
DATACOMP_VOCABULARY = "datacomp-synsets"
DATACOMP_SYNSETS = 24_320  # number of its labels: `_anchor_vocab_size` in the yaml
# End of the name of a recipe whose windows or precision are changed to run it beside the released code.
ADAPTED = "-adapted"
STEPS = 200_000  # `scheduler.max_iterations`
WARMUP_STEPS = 10_000  # `scheduler.warmup_iterations`
H16_TEXT_TOWER = "ViT-H-16-text-768"  # models/configs: no text tower of open_clip is 768 wide and projects to 512
CC3M_PAIRS = 2_900_000
CC3M_EPOCHS = 100


def clip_vit_b16_datacomp() -> Experiment:
    """CLIP at ViT-B/16 on DataComp-1.3B, the baseline of CatLIP's 2.7x: 256 A100 with 256 images each.

    Source: yaml; GPUs from its comment (32 nodes x 8) and paper, table 6b. Captions are padded to 77 tokens, attention
    is product, softmax in fp32, product.
    Expected: ImageNet-1k fine-tuned 84.4 % (paper, table 2), zero-shot 75.0 % (`projects/clip/README.md`).
    """
    recipe = Experiment(
        name="clip-vit-b16-datacomp",
        method="clip",
        image=ImageSettings(
            tower="corenet-vit-base",
            image_size=224,
            random_image_sizes=tuple(range(160, 321, 32)),
            pixel_normalisation="none",
        ),
        text=TextSettings(text_tower="ViT-B-16", context_length=77, text_padding="max_length"),
        targets=TargetSettings(synset_vocabulary=DATACOMP_VOCABULARY, subword_vocabulary="all"),
        input=SampleSettings(
            pack_caption_lengths="web", crop_scale=(0.9, 1.0), flip=False, augmentation="range"
        ),
        training=TrainingSettings(
            batch_size=256,
            # At 224 px; `_with_images_of_schedule_steps` corrects it for the image sizes.
            images_seen=STEPS * 65_536,
            warmup_images=WARMUP_STEPS * 65_536,
            schedule="cosine",
            cosine_min_learning_rate=1e-6,
        ),
        optimizer=OptimizerSettings(
            learning_rate=1e-3,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=0.2,
            clip_norm=None,
            ema_decay=0.9995,
            optimizer_kernel="foreach",
            ema_kernel="for_loop",
            log_recomputed_grad_norm=True,
        ),
        runtime=RuntimeSettings(
            precision="fp16",
            clip_loss_precision="autocast",
            attention="fp32_softmax",
            gathered_features="both",
            compile="off",
            activation_checkpointing=True,
        ),
        timing=TimingSettings(untimed_steps=12, timed_windows=10, steps_per_window=12),
    )
    return _with_images_of_schedule_steps(256, recipe)


def catlip_vit_b16_datacomp() -> Experiment:
    """CatLIP at ViT-B/16 on DataComp-1.3B, 0.37 times CLIP's GPU hours: 64 A100 with 1,024 images each.

    Source: yaml; GPUs from its comment (8 nodes x 8) and paper, table 6b. Crops and eps are CoreNet's defaults.
    Expected: ImageNet-1k fine-tuned 84.3 %, linear probe 80.1 % (paper, tables 1 and 2).
    """
    recipe = change(
        clip_vit_b16_datacomp(),
        name="catlip-vit-b16-datacomp",
        method="catlip",
        synset_head_initialisation="trunc_normal",
        random_image_sizes=tuple(range(128, 321, 16)),
        batch_size=1024,
        crop_scale=(0.08, 1.0),
        flip=True,
        betas=(0.9, 0.999),
        eps=1e-8,
        clip_norm=1.0,
        precision="bf16",
        attention="fused",
        gathered_features="captions",
        log_recomputed_grad_norm=False,
        cosine_min_learning_rate=1e-5,
        untimed_steps=13,
        steps_per_window=13,
    )
    return _with_images_of_schedule_steps(64, recipe)


def catlip_vit_l16_datacomp() -> Experiment:
    """CatLIP at ViT-L/16: 128 A100 with 512 images each, lower rates; otherwise as B/16.

    Source: yaml. Expected: ImageNet-1k fine-tuned 86.5 % (paper, table 2).
    """
    return _make_larger_catlip_recipe(
        "catlip-vit-l16-datacomp", "corenet-vit-large", 512, 6e-4, 6e-6
    )


def catlip_vit_h16_datacomp() -> Experiment:
    """CatLIP at ViT-H/16: 256 A100 with 256 images each, lower rates; otherwise as B/16.

    Source: yaml. Expected: ImageNet-1k fine-tuned 86.7 % (paper, table 2).
    """
    recipe = _make_larger_catlip_recipe(
        "catlip-vit-h16-datacomp", "corenet-vit-huge", 256, 4e-4, 4e-6
    )
    # That of `clip_vit_h16_datacomp`; CatLIP reads none.
    return change(recipe, text_tower=H16_TEXT_TOWER)


def clip_vit_h16_datacomp() -> Experiment:
    """CLIP at ViT-H/16: 512 A100 of 80 GB with 256 images each, 120,000 steps in bf16, and a wider text tower.

    Source: yaml; GPUs from its comment (64 nodes x 8). It is RangeAugment's recipe and names no data set. All that it
    does not set is as at B/16. Expected: not published beside the file.
    """
    recipe = change(
        clip_vit_b16_datacomp(),
        name="clip-vit-h16-datacomp",
        tower="corenet-vit-huge",
        text_tower=H16_TEXT_TOWER,
        learning_rate=5e-4,
        precision="bf16",
    )
    return _with_images_of_schedule_steps(512, recipe, steps=120_000, warmup_steps=1_000)


def clip_vit_b16_cc3m() -> Experiment:
    """CLIP at ViT-B/16 on CC3M, for one node: 4 A100 with 512 images each, 100 epochs of 2.9 million pairs.

    Source: paper, table 6a, for GPUs, batch, rates, betas, decay and epochs (25, 50, 75 and 100 were run). There is no
    yaml: all else is as for DataComp, the warm-up a twentieth as there.
    """
    return change(
        clip_vit_b16_datacomp(),
        name="clip-vit-b16-cc3m",
        synset_vocabulary="shipped-synsets",
        batch_size=512,
        learning_rate=5e-4,
        images_seen=CC3M_EPOCHS * CC3M_PAIRS,
        warmup_images=CC3M_EPOCHS * CC3M_PAIRS * WARMUP_STEPS // STEPS,
    )


def catlip_vit_b16_cc3m() -> Experiment:
    """CatLIP at ViT-B/16 on CC3M: as `clip_vit_b16_cc3m`, the rest as CatLIP's for DataComp.

    The head has the rows of the vocabulary (synsets with more than 500 captions; the number is only in a figure): 723,
    the pack's, where none is given.
    Source: paper, table 6a. Expected: ImageNet-1k linear probe 58.0 %, fine-tuned 67.3 % (paper, table 1).
    """
    clip = clip_vit_b16_cc3m()
    return change(
        catlip_vit_b16_datacomp(),
        name="catlip-vit-b16-cc3m",
        synset_vocabulary=clip.targets.synset_vocabulary,
        batch_size=clip.training.batch_size,
        learning_rate=2e-3,
        cosine_min_learning_rate=2e-5,
        images_seen=clip.training.images_seen,
        warmup_images=clip.training.warmup_images,
    )


def superclass_vit_b16_datacomp() -> Experiment:
    """SuperClass at ViT-B/16: 1.28 billion images of DataComp-1B at a global batch of 16,384 (here 16 x 1,024).

    Source: x-cls/superclass at 90b761f, `cls_schedule/cls_vit_b16_s1.28B_bs16k.yaml` and the defaults of its
    `params.py` and `transform.py`, without a number of GPUs. Expected: at 512 million images a linear probe of 76.0 %
    on ImageNet-1k, CLIP's 75.5 % (arXiv 2411.03313).
    """
    return change(
        clip_vit_b16_datacomp(),
        name="superclass-vit-b16-datacomp",
        method="superclass",
        tower="ViT-B-16",
        random_image_sizes=(),
        pooling="mean",
        pixel_normalisation="openai",
        batch_size=1024,
        augmentation="none",
        learning_rate=5e-4,
        cosine_min_learning_rate=0.0,
        ema_decay=None,
        precision="bf16",
        attention="fused",
        gathered_features="captions",
        ema_kernel="foreach",
        log_recomputed_grad_norm=False,
        images_seen=1_280_000_000,
        warmup_images=500 * 16_384,
    )


def catlip_vit_b16_at_256_images_per_device() -> Experiment:
    """CatLIP's published recipe for ViT-B/16, at 256 images per device, which fit its counterpart, too."""
    return change(
        catlip_vit_b16_datacomp(),
        name="catlip-vit-b16-controlled",
        batch_size=256,
        text_padding="auto",
    )


def clip_vit_b16_in_catlip_recipe() -> Experiment:
    """CLIP in CatLIP's recipe: precision, attention, sizes, batch, optimizer and augmentation are equal.

    The ratio to `catlip_vit_b16_at_256_images_per_device` is the method's part of the 2.7x. It measures cost only,
    because CatLIP's small crops and flips may contradict captions.
    """
    return change(
        catlip_vit_b16_at_256_images_per_device(), name="clip-vit-b16-controlled", method="clip"
    )


def _make_larger_catlip_recipe(
    name: str, tower: str, batch_size: int, learning_rate: float, cosine_min_learning_rate: float
) -> Experiment:
    """Return CatLIP's recipe with a larger tower, at a global batch of 65,536 images of 224 px."""
    recipe = change(
        catlip_vit_b16_datacomp(),
        name=name,
        tower=tower,
        batch_size=batch_size,
        learning_rate=learning_rate,
        cosine_min_learning_rate=cosine_min_learning_rate,
    )
    return _with_images_of_schedule_steps(65_536 // batch_size, recipe)


def _with_images_of_schedule_steps(
    num_devices: int, recipe: Experiment, steps: int = STEPS, warmup_steps: int = WARMUP_STEPS
) -> Experiment:
    """Return the recipe with the numbers of images and warm-up images that all devices read in the schedule's steps."""
    images_per_step = num_devices * recipe.mean_device_batch_size
    return change(
        recipe,
        images_seen=round(steps * images_per_step),
        warmup_images=round(warmup_steps * images_per_step),
    )


RECIPES = (
    clip_vit_b16_datacomp,
    catlip_vit_b16_datacomp,
    catlip_vit_l16_datacomp,
    clip_vit_h16_datacomp,
    catlip_vit_h16_datacomp,
    clip_vit_b16_cc3m,
    catlip_vit_b16_cc3m,
    superclass_vit_b16_datacomp,
    clip_vit_b16_in_catlip_recipe,
    catlip_vit_b16_at_256_images_per_device,
)
