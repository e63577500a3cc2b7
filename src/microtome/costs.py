"""What models and tiles cost: multiplications, weights and bytes, and the rates that were published or measured.

A GPU's rate follows from the published runs (Campanella et al. 2023, on A100-40GB): 1.625 G tiles of DINO ViT-S/16 in 17 d 16 h on 12 GPUs,
3.25 G tiles of MAE ViT-L/16 in 17 d 10 h on 8. What they did in a second, in multiplications, is taken for every other model too.
`gmac`: billions of multiply-adds a tile. Everything here is an estimate: attention, heads and loaders are not what they are on paper.
"""

import re
from dataclasses import dataclass

from microtome.config import Gma
from microtome.encoder_config import Encoder, RunEncoder
from microtome.recipes import Mae, Recipe

PUBLISHED_TILES_A_SLIDE = 3.25e9 / 423_563  # 7,673
PUBLISHED_TILE_B = 100e12 / 3.25e9  # 31 kB: 256 px at 0.5 µm/px
PUBLISHED_SLIDE_B = 600e12 / 423_563  # 1.4 GB: Philips, 0.25 µm/px
DINO_TILES_S_GPU, MAE_TILES_S_GPU = 89.0, 270.0  # published: fp32, and fp16 autocast
TILES_S_CORE = 2139.0  # cut from a Philips-like slide: `make bench`, tiles_philips
TISSUE_S_GPX0 = 0.18  # CPU seconds a billion pixels of level 0: `make bench`, tissue (0.076 s for 0.42)
TISSUE_SHARE = 1 / 3  # ASSUME: of a slide's area
SCHEDULE_S_ROW = 111.2 / 65e6  # `make bench`, schedule_65m, on a busy machine
TISSUE_FILES_B = 300e3  # a slide's GeoJSON, overlay and sidecar: 245 kB for CMU-1-Small-Region, more for larger ones
TAR_B = 768  # a tile's header of 512 bytes and, on average, half a block of padding
INDEX_B = 76  # a tile's rows in its slide's and its shard's index: 36 + 40
SCHEDULE_B = 16  # a row
ATTENTION_B = 16  # about, a tile's row in the attention that a task and encoder leave
COORDS_B = 16  # a tile's place beside its features
HELD_SHARE = 0.6  # of free memory that may hold a task's features (`HOST_SHARE` of bags.py)
VIT = {  # width, blocks: Dosovitskiy 2021, Touvron 2021, Zhai 2022
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
    "giant": (1408, 40),
}
RESNET50_GMAC, RESNET50_LAYER3_GMAC = 4.1, 3.3  # at 224 px: He et al. 2016; without its last stage
UNKNOWN = "vit_large_patch16"  # ASSUME: what a model costs whose size is not in its name


@dataclass(frozen=True)
class Vit:
    """The size of a vision transformer."""

    width: int
    blocks: int
    patch_px: int

    def gmac(self, px: int, kept: float = 1.0) -> float:
        """Forward, on a square image of `px`, with a fraction `kept` of its patches: 12 w^2 a token and block, and attention."""
        tokens = round(kept * (px / self.patch_px) ** 2) + 1
        return (12 * tokens * self.width**2 + 2 * tokens**2 * self.width) * self.blocks / 1e9

    @property
    def weights(self) -> int:
        """Without heads."""
        return (12 * self.blocks * self.width + 3 * self.patch_px**2) * self.width


def vit(model: str) -> Vit | None:
    """The transformer that a timm name such as vit_small_patch16_224 says; None where it says none."""
    found = re.search(r"vit_(tiny|small|base|large|huge|giant)\w*?patch(\d+)", model)
    return Vit(*VIT[found[1]], int(found[2])) if found else None


# Of a tile in the two published runs: DINO ViT-S/16 on crops of 2 x 224 and 8 x 96 px, MAE ViT-L/16 with a decoder of 8 blocks of 512.
DINO_GMAC = 8 * Vit(384, 12, 16).gmac(224) + 24 * Vit(384, 12, 16).gmac(96)
MAE_GMAC = 3 * (Vit(1024, 24, 16).gmac(224, 0.25) + Vit(512, 8, 16).gmac(224))


def tiles_s_gpu(gmac: float, precision: str) -> float:
    """Tiles a second on one A100 that cost `gmac` each, at what the published runs of that precision (fp32, or bf16 and fp16) did."""
    return (DINO_TILES_S_GPU * DINO_GMAC if precision == "fp32" else MAE_TILES_S_GPU * MAE_GMAC) / gmac


def train_gmac(recipe: Recipe, model: str) -> float:
    """Of a training tile: a backward pass is two forward ones."""
    size = vit(model) or _unknown()
    if isinstance(recipe, Mae):
        decoder = Vit(recipe.decoder_dim, recipe.decoder_depth, size.patch_px)
        return 3 * (size.gmac(recipe.crop_px, 1 - recipe.mask_ratio) + decoder.gmac(recipe.crop_px))
    teacher = 2 * size.gmac(recipe.global_crops_px)
    return teacher + 3 * (teacher + recipe.local_crops * size.gmac(recipe.local_crops_px))


def state_b(recipe: Recipe, model: str) -> int:
    """Of a run's training state: fp32 weights, Adam's two moments, and DINO's teacher."""
    size = vit(model) or _unknown()
    if isinstance(recipe, Mae):
        return 4 * 3 * (size.weights + Vit(recipe.decoder_dim, recipe.decoder_depth, size.patch_px).weights)
    hidden, bottleneck = recipe.head_hidden, recipe.head_bottleneck
    head = size.width * hidden + hidden**2 + hidden * bottleneck + bottleneck * recipe.out_dim
    return 4 * 4 * (size.weights + head)


def encoder_weights(model: str) -> int:
    """The weights of a transformer without its head."""
    return (vit(model) or _unknown()).weights


def _unknown() -> Vit:
    size = vit(UNKNOWN)
    assert size is not None
    return size


def model_of(encoder: Encoder, runs: dict[str, str]) -> str:
    """An encoder's model; `runs`: the model of each run."""
    return runs[encoder.run] if isinstance(encoder, RunEncoder) else encoder.timm


def encode_gmac(encoder: Encoder, model: str) -> float:
    """Of one tile through an encoder."""
    px = encoder.input_px or 224
    if "resnet50" in model:
        truncated = not isinstance(encoder, RunEncoder) and encoder.truncate
        return (RESNET50_LAYER3_GMAC if truncated else RESNET50_GMAC) * (px / 224) ** 2
    return (vit(model) or _unknown()).gmac(px)


def encoder_dim(encoder: Encoder, model: str) -> int:
    """The dimension of a tile's features."""
    if "resnet50" in model:
        return 1024 if not isinstance(encoder, RunEncoder) and encoder.truncate else 2048
    width = (vit(model) or _unknown()).width
    return 2 * width if encoder.pooling == "cls+mean" else width


def is_guess(model: str) -> bool:
    """Whether a model's size is not known from its name."""
    return vit(model) is None and "resnet50" not in model


def gma_gmac(dim: int, gma: Gma) -> float:
    """Of a tile's way through the gated-attention aggregator, forward."""
    return (dim * gma.hidden + gma.hidden**2 + 2 * gma.hidden * gma.attention) / 1e9
