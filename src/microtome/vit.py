"""What both algorithms need of a timm ViT: its tokens, position embeddings, and stochastic depth by a sample's position.

Images are float [n, 3, h, w], normalised; tokens [n, 1 + patches, d], the class token first.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from microtome.errors import UserError
from microtome.randomness import Stream, uniforms
from microtome.vision_models import backbone, class_token_of, is_plain_vit


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016) of one branch: a sample loses it where its number is below `rate`; the kept are scaled up.

    `numbers` [n] is set before each forward (`set_drop_path`); None leaves the branch as it is.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.numbers: torch.Tensor | None = None

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """Branch [n, tokens, d] with the lost samples zero."""
        if self.numbers is None:
            return branch
        kept = (self.numbers >= self.rate).to(branch.dtype)
        return branch / (1 - self.rate) * kept.view(-1, 1, 1)  # 1 / 0.9 itself would be rounded, in bf16 by 0.2 %


def build_vit(name: str, pretrained: bool, img_size: int, seed: int, drop_path_rate: float = 0.0) -> Any:
    """A timm ViT with a class token, whose branches drop with a rate that grows linearly to `drop_path_rate` at the last block.

    Raises:
        UserError: timm has no such model, it is no plain ViT with a class token, or `img_size` is no multiple of its patches.
    """
    with torch.device("meta"):
        outline: Any = backbone(name, pretrained=False)
    if not is_plain_vit(outline):
        raise UserError(
            f"Model {name!r}: found timm's {type(outline).__name__}, expected a ViT with a class token and no other, position embeddings"
            " for it and for each patch, one block after another, and a final LayerNorm, such as vit_small_patch16_224."
        )
    check_size("crop size", img_size, patch_px(outline), name)
    vit: Any = backbone(name, pretrained, img_size=img_size, seed=seed)
    rates = np.linspace(0, drop_path_rate, len(vit.blocks)).tolist()
    for block, rate in zip(vit.blocks, rates, strict=True):
        block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)
    return vit


def patch_px(vit: Any) -> int:
    """The side of a patch."""
    return int(vit.patch_embed.patch_size[0])


def check_size(what: str, size_px: int, patch: int, model: str) -> None:
    """Raise a UserError unless `size_px` is a multiple of `patch`."""
    if size_px % patch:
        below = size_px // patch * patch
        near = f"{below} or {below + patch}" if below else f"{patch}"
        raise UserError(f"{what}: found {size_px} px, expected a multiple of {patch}, the patch size of {model}; the nearest are {near}.")


def draw_drop_path(vit: Any, view: int, seed: int, pseudo_epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Numbers [n, branches] in [0, 1) for the samples at `positions`, of view `view`."""
    return uniforms(seed, Stream.DROP_PATH + view, pseudo_epoch, positions, 2 * len(vit.blocks))


def set_drop_path(vit: Any, numbers: torch.Tensor | None) -> None:
    """Give every branch its column of `numbers` [n, branches], or None to keep all branches."""
    for index, block in enumerate(vit.blocks):
        block.drop_path1.numbers = None if numbers is None else numbers[:, 2 * index]
        block.drop_path2.numbers = None if numbers is None else numbers[:, 2 * index + 1]


def cut_patches(vit: Any, images: torch.Tensor) -> torch.Tensor:
    """The pixels [n, rows * columns, 3 * p * p] of each patch, channels first, as the weights of the embedding have them."""
    patch = patch_px(vit)
    n, channels, height, width = images.shape
    grid = images.reshape(n, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, channels * patch * patch)


def embed(vit: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Patch tokens [n, L, d] of `pixels` [n, L, 3 * p * p], without position: a product, on a GPU far quicker than the convolution."""
    projection = vit.patch_embed.proj
    tokens: torch.Tensor = vit.patch_embed.norm(F.linear(pixels, projection.weight.flatten(1), projection.bias))
    return tokens


def tokens(vit: Any, images: torch.Tensor) -> torch.Tensor:
    """All tokens after the last block and the final LayerNorm."""
    return encode(vit, embedded(vit, images))


def class_token(vit: Any, images: torch.Tensor) -> torch.Tensor:
    """The class token [n, d] of `tokens`, within rounding; the last block computes nothing else."""
    *blocks, last = vit.blocks
    encoded = vit.norm_pre(embedded(vit, images))
    for block in blocks:
        encoded = block(encoded)
    token: torch.Tensor = vit.norm(class_token_of(last, encoded))
    return token[:, 0]


def embedded(vit: Any, images: torch.Tensor) -> torch.Tensor:
    """Class token and patches with their positions."""
    rows, columns = (side // patch_px(vit) for side in images.shape[2:])
    patches = embed(vit, cut_patches(vit, images))
    whole = torch.cat([vit.cls_token.expand(len(images), -1, -1), patches], dim=1)
    return whole + resized_pos_embed(vit.pos_embed, rows, columns)


def encode(vit: Any, embedded: torch.Tensor) -> torch.Tensor:
    """Blocks and final LayerNorm over embedded tokens."""
    encoded: torch.Tensor = vit.norm(vit.blocks(vit.norm_pre(embedded)))
    return encoded


def resized_pos_embed(pos_embed: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Position embedding [1, 1 + side^2, d] for a grid of other size: bicubic, by the scale of the official DINO ((rows + 0.1) / side)."""
    side = int((pos_embed.shape[1] - 1) ** 0.5)
    if (rows, columns) == (side, side):
        return pos_embed
    grid = pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = ((rows + 0.1) / side, (columns + 0.1) / side)  # 0.1: a floor of 5.999 would lose a row
    resized = F.interpolate(grid, scale_factor=scale, mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([pos_embed[:, :1], resized], dim=1)


def sincos_pos_embed(dim: int, side: int) -> torch.Tensor:
    """The fixed 2-D embedding of MAE: float32 [1, 1 + side^2, dim], zero for the class token.

    The first half of the channels encodes the column, the second the row, each by sines, then cosines, of frequencies
    10000^(-i / (dim / 4)) (Vaswani et al. 2017).
    """
    frequency = 1 / 10000 ** (np.arange(dim // 4) / (dim / 4))
    row, column = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    halves = [place.reshape(-1, 1) * frequency for place in (column, row)]
    grid = np.concatenate([wave(half) for half in halves for wave in (np.sin, np.cos)], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, dim)), grid])[None].astype(np.float32))
