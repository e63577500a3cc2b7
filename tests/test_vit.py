"""What both algorithms need of a ViT, against timm's own forward and formulas written out in float64."""

import math

import numpy as np
import pytest
import torch

from microtome import vit
from microtome.errors import UserError
from microtome.vision_models import backbone


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel as torch interpolates with it."""
    x = abs(distance)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def naive_line(line: np.ndarray, to: int) -> np.ndarray:
    """A line of values resized to `to`, with the scale (to + 0.1) / len(line) of the official DINO."""
    step = len(line) / (to + 0.1)
    out = np.zeros((to, *line.shape[1:]))
    for i in range(to):
        place = (i + 0.5) * step - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            out[i] += cubic(place - tap) * line[min(max(tap, 0), len(line) - 1)]
    return out


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (3, 5), (20, 20)])
def test_position_embeddings_are_resized_as_by_dino(rows: int, columns: int) -> None:
    embedding = torch.randn(1, 1 + 14 * 14, 4, dtype=torch.float64)
    found = vit.resized_pos_embed(embedding, rows, columns)
    grid = embedding[0, 1:].reshape(14, 14, 4).numpy()
    expected = naive_line(naive_line(grid, rows).transpose(1, 0, 2), columns).transpose(1, 0, 2)
    assert torch.allclose(found[0, 1:], torch.from_numpy(expected).reshape(-1, 4), atol=1e-12)
    assert torch.equal(found[:, :1], embedding[:, :1])


def test_sincos_embedding_is_vaswanis() -> None:
    found = vit.sincos_pos_embed(16, 3)
    assert (found[0, 0] == 0).all()
    for row in range(3):
        for column in range(3):
            halves = []
            for place in (column, row):
                angles = [place / 10000 ** (i / 4) for i in range(4)]
                halves += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            assert found[0, 1 + 3 * row + column].tolist() == pytest.approx(halves, abs=1e-7)


def test_tokens_are_timms_at_the_models_own_size() -> None:
    model = vit.build_vit("vit_tiny_patch16_224", False, 64, seed=0, drop_path_rate=0.1).eval().double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert torch.allclose(vit.tokens(model, images), model.forward_features(images), atol=1e-12)
    assert vit.tokens(model, torch.randn(2, 3, 32, 48, dtype=torch.float64)).shape == (2, 7, 192)


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("vit_tiny_patch16_224", 16),
        ("vit_small_patch8_224", 8),
        ("vit_small_patch14_dinov2", 14),  # LayerScale
        ("vit_xsmall_patch16_clip_224", 16),  # a norm before the blocks
    ],
)
def test_the_class_token_alone_and_its_gradients_are_those_of_all_tokens(name: str, patch: int) -> None:
    model = vit.build_vit(name, False, 2 * patch, seed=0, drop_path_rate=0.5).double()
    images = torch.randn(6, 3, 2 * patch, 3 * patch, dtype=torch.float64)
    vit.set_drop_path(model, torch.from_numpy(vit.draw_drop_path(model, 0, 0, 1, np.arange(6))).double())
    found, gradients = [], []
    for token in (vit.class_token(model, images), vit.tokens(model, images)[:, 0]):
        found.append(token)
        token.square().sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]))
        model.zero_grad()
    assert torch.allclose(found[0], found[1], atol=1e-12)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-10)


def test_drop_path_loses_samples_by_their_number_and_scales_the_others() -> None:
    layer = vit.DropPath(0.25)
    branch = torch.ones(3, 2, 4)
    assert torch.equal(layer(branch), branch)
    layer.numbers = torch.tensor([0.2, 0.25, 0.9])
    assert torch.allclose(layer(branch)[:, 0, 0], torch.tensor([0.0, 4 / 3, 4 / 3]))
    layer.rate, layer.numbers = 0.1, torch.tensor([0.5])
    branch = torch.linspace(1, 2, 1000).bfloat16()[None, None]
    assert float(layer(branch).double().mean() / branch.double().mean()) == pytest.approx(1 / 0.9, rel=3e-4), "no bias by rounding 1 / 0.9"


def test_drop_path_rates_grow_linearly_and_are_met() -> None:
    model = vit.build_vit("vit_tiny_patch16_224", False, 32, seed=0, drop_path_rate=0.1)
    assert [block.drop_path1.rate for block in model.blocks] == pytest.approx(np.linspace(0, 0.1, 12).tolist())
    numbers = vit.draw_drop_path(model, 3, 0, 1, np.arange(20000))
    assert numbers.shape == (20000, 24)
    assert (numbers[:, -1] < 0.1).mean() == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 20000))
    vit.set_drop_path(model, torch.from_numpy(numbers))
    assert torch.equal(model.blocks[5].drop_path2.numbers, torch.from_numpy(numbers[:, 11]))


def test_a_sample_drops_the_same_paths_whoever_stands_beside_it() -> None:
    model = vit.build_vit("vit_tiny_patch16_224", False, 32, seed=0, drop_path_rate=0.5)
    images = torch.randn(4, 3, 32, 32)
    numbers = torch.from_numpy(vit.draw_drop_path(model, 0, 0, 1, np.arange(4)))
    vit.set_drop_path(model, numbers)
    together = vit.tokens(model, images)
    vit.set_drop_path(model, numbers[2:])
    assert torch.allclose(vit.tokens(model, images[2:]), together[2:], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet50.tv_in1k", "ResNet"),
        ("eva02_tiny_patch14_224", "Eva"),
        ("cait_xxs24_224", "Cait"),
        ("xcit_tiny_12_p16_224", "Xcit"),
        ("vit_base_patch16_siglip_224", "VisionTransformer"),  # no class token
        ("vit_small_patch14_reg4_dinov2", "VisionTransformer"),  # registers beside it
        ("deit3_small_patch16_224", "VisionTransformer"),  # no position embedding for it
        ("vit_small_r26_s32_224", "VisionTransformer"),  # a ResNet before it
        ("vit_small_patch16_18x2_224", "VisionTransformer"),  # blocks side by side
        ("test_vit2", "VisionTransformer"),  # a norm after the pooling alone
    ],
)
def test_what_is_no_plain_vit_with_a_class_token_is_refused(name: str, found: str) -> None:
    with pytest.raises(UserError, match=f"{name}.*found timm's {found}, expected a ViT with a class token"):
        vit.build_vit(name, False, 224, seed=0)


def test_the_size_must_fit_the_patches() -> None:
    with pytest.raises(UserError, match=r"found 100 px, expected a multiple of 14.*98 or 112"):
        vit.build_vit("vit_small_patch14_dinov2", False, 100, seed=0)
    with pytest.raises(UserError, match="the nearest are 16"):
        vit.check_size("crop", 9, 16, "a model")
    assert vit.patch_px(backbone("vit_small_patch8_224", False)) == 8
