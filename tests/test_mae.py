"""MAE: each formula against one written in float64 from the paper's text, and the algorithm as a whole."""

import math

import numpy as np
import pytest
import torch

from microtome import vit
from microtome.algorithm import Tiles, parameter_groups
from microtome.mae import MaeAlgorithm, MaeNetwork, mae_loss, mask_of, normalise_patches, patchify, unpatchify
from microtome.recipes import Mae
from tests.training import LENGTH, photo, photo_tiles, published, small_settings


def algorithm(**recipe: object) -> MaeAlgorithm:
    settings = small_settings("mae", **recipe)
    return MaeAlgorithm(settings.recipe, settings.run, LENGTH, settings.seed)


def test_patches_are_cut_row_by_row_with_channels_last() -> None:
    images = torch.randn(2, 3, 12, 12)
    patches = patchify(images, 4)
    for row in range(3):
        for column in range(3):
            naive = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].permute(0, 2, 3, 1).reshape(2, -1)
            assert torch.equal(patches[:, 3 * row + column], naive)
    assert torch.equal(unpatchify(patches, 4), images)


def test_loss_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    predicted, images = rng.normal(size=(3, 9, 48)), rng.normal(size=(3, 3, 12, 12))
    mask = np.zeros((3, 9))
    mask[:, [0, 2, 3, 7]] = 1
    errors = []
    for n in range(3):
        for patch in np.flatnonzero(mask[n]):
            row, column = divmod(patch, 3)
            pixels = images[n, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].transpose(1, 2, 0).ravel()
            target = (pixels - pixels.mean()) / math.sqrt(((pixels - pixels.mean()) ** 2).sum() / 47 + 1e-6)
            errors.append(((predicted[n, patch] - target) ** 2).mean())
    found = mae_loss(torch.from_numpy(predicted), normalise_patches(patchify(torch.from_numpy(images), 4)), torch.from_numpy(mask))
    assert float(found) == pytest.approx(np.mean(errors), rel=1e-12)


def test_masks_remove_the_published_part_and_every_patch_alike() -> None:
    mae = algorithm(mask_ratio=0.75, crop_px=64)
    order = mae.prepare(Tiles(photo(1, 64).expand(2000, -1, -1, -1), np.arange(2000), 1)).order
    mask = mask_of(order, mae.kept)
    assert mae.kept == 4
    assert (mask.sum(dim=1) == 12).all()
    assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(2000, -1))
    assert mask.mean(dim=0).numpy() == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 2000))
    again = mae.prepare(Tiles(photo(1, 64), np.array([1234]), 1))
    assert torch.equal(again.order[0], order[1234])


def test_the_published_sizes() -> None:
    recipe, run = published("mae_vitl16", Mae)
    with torch.device("meta"):
        encoder = vit.backbone(run.model, False)
        network = MaeNetwork(encoder, recipe)
    millions = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in (("encoder", network.encoder), ("all", network))}
    assert millions["encoder"] == pytest.approx(303.3, abs=0.05)
    assert millions["all"] - millions["encoder"] == pytest.approx(26.25, abs=0.2)  # eight blocks of 512, embeddings and prediction
    assert len(network.decoder_blocks) == 8
    assert network.decoder_blocks[0].attn.num_heads == 16
    assert int(196 * (1 - recipe.mask_ratio)) == 49


def test_encoder_sees_the_kept_patches_alone_and_the_decoder_puts_everything_back() -> None:
    """Against a forward written sample by sample: choose, encode, put mask tokens in the holes, decode."""
    mae = algorithm().double()
    prepared = mae.prepare(photo_tiles())
    images, network, encoder = prepared.images.double(), mae.network, mae.encoder
    found = network(images, prepared.order, mae.kept)
    for sample, image in enumerate(images):
        kept = prepared.order[sample, : mae.kept].tolist()
        pixels = patchify(image[None], 16)[0].view(-1, 16, 16, 3).permute(0, 3, 1, 2)
        weight = encoder.patch_embed.proj.weight
        embedded = torch.einsum("lcpq,dcpq->ld", pixels, weight) + encoder.patch_embed.proj.bias + encoder.pos_embed[0, 1:]
        tokens = torch.cat([encoder.cls_token[0] + encoder.pos_embed[0, :1], embedded[kept]])
        for block in encoder.blocks:
            tokens = block(tokens[None])[0]
        tokens = network.decoder_embed(encoder.norm(tokens))
        full = network.mask_token[0].repeat(len(embedded), 1)
        full[kept] = tokens[1:]
        full = torch.cat([tokens[:1], full]) + network.decoder_pos_embed[0]
        predicted = network.decoder_pred(network.decoder_norm(network.decoder_blocks(full[None])))[0, 1:]
        assert torch.allclose(found[sample], predicted, rtol=1e-8, atol=1e-10)


def test_removed_pixels_do_not_reach_the_prediction() -> None:
    mae = algorithm()
    prepared = mae.prepare(photo_tiles(1))
    predicted = mae.network(prepared.images, prepared.order, mae.kept)
    patches = patchify(prepared.images, 16)
    patches[0, prepared.order[0, mae.kept :]] = 9.0
    assert torch.equal(mae.network(unpatchify(patches, 16), prepared.order, mae.kept), predicted)


def test_initialisation_is_the_official_one() -> None:
    encoder = algorithm().encoder
    assert torch.equal(encoder.pos_embed, vit.sincos_pos_embed(64, 2))
    assert not encoder.pos_embed.requires_grad
    for weight in (encoder.blocks[0].attn.qkv.weight.detach(), encoder.patch_embed.proj.weight.detach().flatten(1)):
        bound = math.sqrt(6 / sum(weight.shape))  # Xavier-uniform
        assert float(weight.abs().max()) == pytest.approx(bound, rel=0.01)
        assert float(weight.var()) == pytest.approx(bound**2 / 3, rel=0.02)
    assert float(encoder.cls_token.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert float(encoder.blocks[0].mlp.fc1.bias.detach().abs().max()) == 0


def test_groups_follow_the_official_rule() -> None:
    mae = algorithm()
    decayed, fixed = parameter_groups(mae.network)
    names = {id(parameter): name for name, parameter in mae.network.named_parameters()}
    assert {"encoder.cls_token", "mask_token"} <= {names[id(parameter)] for parameter in decayed["params"]}
    assert all(parameter.ndim == 1 for parameter in fixed["params"])
    untrained = set(names.values()) - {names[id(parameter)] for group in (decayed, fixed) for parameter in group["params"]}
    assert untrained == {"encoder.pos_embed", "decoder_pos_embed"}


def test_micro_batches_give_the_gradient_of_the_whole() -> None:
    whole, split = algorithm(), algorithm()
    whole.loss(whole.network, whole.prepare(photo_tiles()), whole.rates(3)).backward()
    for first, n in ((0, 3), (3, 5)):
        (split.loss(split.network, split.prepare(photo_tiles(n, first)), split.rates(3)) * n / 8).backward()
    for one, other in zip(whole.network.parameters(), split.network.parameters(), strict=True):
        if one.grad is not None:
            assert (one.grad - other.grad).norm() <= 1e-5 * (one.grad.norm() + 1)
    naive = math.sqrt(sum(float(p.grad.double().pow(2).sum()) for p in whole.network.parameters() if p.grad is not None))
    assert float(whole.before_update(3)) == pytest.approx(naive, rel=1e-5)
