"""MAE: masked autoencoders (He et al. 2021), as the official code does it.

An image is L patches of p x p px; a patch is p * p * 3 numbers, channels last. Masks are float [n, L]: 0 is kept, 1 is removed.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from microtome import vit
from microtome.algorithm import Tiles, gradients, norms_of
from microtome.augment import View, views
from microtome.compiled import compiled
from microtome.memory import pinned
from microtome.randomness import Stream, uniforms
from microtome.recipes import Mae, RunRecipe
from microtome.training_schedules import Length, Rates, mae_rates
from microtome.vision_models import vit_block


class MaeNetwork(nn.Module):
    """A ViT that sees the kept patches, and a small decoder that predicts the removed ones."""

    def __init__(self, encoder: Any, recipe: Mae) -> None:
        super().__init__()
        self.encoder: Any = encoder
        side = recipe.crop_px // vit.patch_px(encoder)
        dim = recipe.decoder_dim
        self.decoder_embed = nn.Linear(encoder.num_features, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.decoder_pos_embed = nn.Parameter(vit.sincos_pos_embed(dim, side), requires_grad=False)
        self.decoder_blocks = nn.Sequential(*(vit_block(dim, recipe.decoder_heads) for _ in range(recipe.decoder_depth)))
        self.decoder_norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_pred = nn.Linear(dim, vit.patch_px(encoder) ** 2 * 3)

    def forward(self, images: torch.Tensor, order: torch.Tensor, kept: int) -> torch.Tensor:
        """Predict all patches [n, L, p * p * 3] from the first `kept` of them in `order` ([n, L], patch numbers)."""
        return self.decode(self.encode(images, order[:, :kept]), order)

    def encode(self, images: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Tokens [n, 1 + kept, d] of the patches numbered `keep` [n, kept]."""
        pixels = vit.cut_patches(self.encoder, images)
        pixels = pixels.gather(1, keep[:, :, None].expand(-1, -1, pixels.shape[2]))  # the others are not even embedded
        embedded = vit.embed(self.encoder, pixels) + self.encoder.pos_embed[0, 1:][keep]
        class_token = self.encoder.cls_token + self.encoder.pos_embed[:, :1]
        return vit.encode(self.encoder, torch.cat([class_token.expand(len(images), -1, -1), embedded], dim=1))

    def decode(self, tokens: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Put mask tokens where patches were removed, everything back in its place, and predict."""
        tokens = self.decoder_embed(tokens)
        removed = self.mask_token.to(tokens.dtype).expand(len(tokens), order.shape[1] + 1 - tokens.shape[1], -1)
        shuffled = torch.cat([tokens[:, 1:], removed], dim=1)
        places = order.argsort(dim=1)[:, :, None].expand(-1, -1, shuffled.shape[2])
        tokens = torch.cat([tokens[:, :1], shuffled.gather(1, places)], dim=1) + self.decoder_pos_embed
        predicted: torch.Tensor = self.decoder_pred(self.decoder_norm(self.decoder_blocks(tokens)))
        return predicted[:, 1:]


@dataclass(frozen=True)
class Prepared:
    """Crops [n, 3, s, s] and the random order [n, L] of their patches."""

    images: torch.Tensor
    order: torch.Tensor


class MaeAlgorithm(nn.Module):
    """Encoder and decoder; see `Algorithm` for its methods."""

    pooling = "mean"
    out_dim = None

    def __init__(self, recipe: Mae, run: RunRecipe, length: Length, seed: int) -> None:
        super().__init__()
        self.recipe, self.run, self.length, self.seed, self.betas = recipe, run, length, seed, recipe.betas
        encoder = vit.build_vit(run.model, run.init == "pretrained", recipe.crop_px, seed)
        self.crop_px, self.patch = recipe.crop_px, vit.patch_px(encoder)
        self.patches = (recipe.crop_px // self.patch) ** 2
        self.kept = int(self.patches * (1 - recipe.mask_ratio))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.network = MaeNetwork(encoder, recipe)
            initialise(self.network, whole=run.init == "random")
        self.view = View(recipe.crop_px, recipe.crop_scale, colour=False)
        self.compiled = False

    def compile_beside(self) -> None:
        """Compile augmentation and loss."""
        self.compiled = True

    @property
    def encoder(self) -> Any:
        """The ViT without the decoder."""
        return self.network.encoder

    def rates(self, step: int) -> Rates:
        """Learning rate and weight decay."""
        return mae_rates(step, self.length, self.recipe, self.run)

    def prepare(self, tiles: Tiles) -> Prepared:
        """Crops, and the order that says which patches are kept."""
        where = (self.seed, tiles.pseudo_epoch, tiles.positions)
        images = views(tiles.images, [(0, self.view)], *where, self.recipe.mean, self.recipe.std, self.compiled)
        noise = uniforms(self.seed, Stream.MASK, tiles.pseudo_epoch, tiles.positions, self.patches)
        order = pinned(torch.from_numpy(noise.argsort(axis=1, kind="stable")), images.device)
        return Prepared(images, order.to(images.device, non_blocking=True))

    def loss(self, network: nn.Module, prepared: Prepared, rates: Rates) -> torch.Tensor:
        """The mean squared error of the removed patches."""
        predicted = network(prepared.images, prepared.order, self.kept).float()
        judge = compiled(judged) if self.compiled else judged
        loss: torch.Tensor = judge(predicted, prepared.images, mask_of(prepared.order, self.kept), self.patch, self.recipe.norm_pix_loss)
        return loss

    def before_update(self, step: int) -> torch.Tensor:
        """Nothing is clipped."""
        norm: torch.Tensor = torch.linalg.vector_norm(norms_of(gradients(self.network)))
        return norm

    def after_update(self, rates: Rates, global_batch: int) -> dict[str, torch.Tensor]:
        """There is no teacher."""
        return {}


def judged(predicted: torch.Tensor, images: torch.Tensor, mask: torch.Tensor, patch: int, norm_pix_loss: bool) -> torch.Tensor:
    """The loss of predicted patches."""
    targets = patchify(images, patch)
    return mae_loss(predicted, normalise_patches(targets) if norm_pix_loss else targets, mask)


def mask_of(order: torch.Tensor, kept: int) -> torch.Tensor:
    """The mask [n, L] that removes all but the first `kept` patches of `order`."""
    return torch.ones(order.shape, device=order.device).scatter_(1, order[:, :kept], 0.0)


def patchify(images: torch.Tensor, patch: int) -> torch.Tensor:
    """Images [n, 3, h, w] as patches [n, L, patch * patch * 3], row by row, channels last."""
    n, channels, height, width = images.shape
    grid = images.reshape(n, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, patch * patch * channels)


def unpatchify(patches: torch.Tensor, patch: int) -> torch.Tensor:
    """The opposite of `patchify`, for square images."""
    n, length, _ = patches.shape
    side = int(length**0.5)
    return patches.reshape(n, side, side, patch, patch, 3).permute(0, 5, 1, 3, 2, 4).reshape(n, 3, side * patch, side * patch)


def normalise_patches(patches: torch.Tensor) -> torch.Tensor:
    """Each patch with mean 0 and (unbiased) variance 1."""
    mean, variance = patches.mean(dim=-1, keepdim=True), patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6) ** 0.5


def mae_loss(predicted: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean squared error, a mean over the removed patches alone."""
    error = F.mse_loss(predicted, targets, reduction="none").mean(dim=-1)
    return (error * mask).sum() / mask.sum()


def initialise(network: MaeNetwork, whole: bool) -> None:
    """The official initialisation of the decoder, and (`whole`) of the encoder, unless that has trained weights.

    Linear layers, and the patch embedding as if it were one, are Xavier-uniform; tokens normal with 0.02; position embeddings fixed.
    """
    encoder = network.encoder
    encoder.pos_embed.requires_grad_(False)
    nn.init.normal_(network.mask_token, std=0.02)
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and (whole or not name.startswith("encoder.")):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    if whole:
        nn.init.normal_(encoder.cls_token, std=0.02)
        nn.init.xavier_uniform_(encoder.patch_embed.proj.weight.data.flatten(1))
        side = int((encoder.pos_embed.shape[1] - 1) ** 0.5)
        encoder.pos_embed.data.copy_(vit.sincos_pos_embed(encoder.pos_embed.shape[2], side))
