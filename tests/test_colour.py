"""What is done to colours: each operation against torchvision's on the same parameters, in either form."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from microtome.augment import View, draw, recolour, recolour_fused
from microtome.colour import (
    BLUR_RADIUS_PX,
    blur,
    brightness_,
    contrast_,
    grayscale_,
    hue_,
    normalise,
    saturation_,
    solarize_,
)
from microtome.vision_models import backbone  # noqa: F401  (it mends torchvision, which is imported next)
from tests.training import photo

import torchvision.transforms.v2.functional as reference  # isort: skip

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(n: int = 5, px: int = 40) -> torch.Tensor:
    """Float images; some pixels are grey, black, white, or have two equal channels: where hue has its corners."""
    made = photo(n, px).permute(0, 3, 1, 2).float() / 255
    made[:, :, :4] = made[:, :1, :4]
    made[:, :, 4] = 0
    made[:, :, 5] = 1
    made[:, 1, 6:9] = made[:, 0, 6:9]
    made[:, 2, 9:12] = made[:, 1, 9:12]
    return made.contiguous()


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (brightness_, reference.adjust_brightness, [0.6, 1.0, 1.4, 0.9, 1.2]),
        (contrast_, reference.adjust_contrast, [0.6, 1.0, 1.4, 0.9, 1.2]),
        (saturation_, reference.adjust_saturation, [0.8, 1.0, 1.2, 0.95, 1.1]),
        (hue_, reference.adjust_hue, [-0.1, 0.0, 0.1, 0.03, -0.07]),
        (hue_, reference.adjust_hue, [-0.5, 0.5, 0.33, 0.25, -0.4]),
    ],
)
def test_jitter_is_torchvisions(ours, theirs, values) -> None:  # type: ignore[no-untyped-def]
    before = images()
    expected = torch.stack([theirs(image, value) for image, value in zip(before, values, strict=True)])
    found = ours(before.clone(), torch.tensor(values).view(-1, 1, 1, 1))
    assert torch.allclose(found, expected, atol=2e-6)


def test_the_other_operations_are_torchvisions() -> None:
    before = images()
    assert torch.allclose(grayscale_(before.clone()), reference.rgb_to_grayscale(before, 3), atol=1e-6)
    assert torch.equal(solarize_(before.clone()), reference.solarize(before, 128 / 255))
    assert torch.allclose(normalise(before.clone(), MEAN, STD), reference.normalize(before, list(MEAN), list(STD)), atol=1e-6)
    for sigma in (0.1, 0.7, 2.0):
        expected = reference.gaussian_blur(before, [2 * BLUR_RADIUS_PX + 1] * 2, [sigma, sigma])
        assert torch.allclose(blur(before, torch.full((5, 1, 1, 1), sigma)), expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_nearly_pillows(sigma: float) -> None:
    before = photo(1, 64)
    theirs = np.asarray(Image.fromarray(before[0].numpy()).filter(ImageFilter.GaussianBlur(sigma))).astype(np.float32)
    ours = 255 * blur(before.permute(0, 3, 1, 2).float() / 255, torch.tensor([[[[sigma]]]]))[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs)[8:-8, 8:-8].mean() < 1.5  # grey levels; Pillow takes three box filters for a Gaussian


def test_the_form_for_a_compiler_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microtome.augment.compiled", lambda function: function)
    for view in (View(40, (0.4, 1.0), True, 0.5, 0.2), View(40, (0.4, 1.0), False)):
        parameters = draw(view, 1, 64, 3, 7, np.arange(48))
        levels = (images(48) * 255).round()
        expected = normalise(recolour(levels / 255, parameters), MEAN, STD)
        found = recolour_fused(levels.clone(), parameters, MEAN, STD)
        apart = (found - expected).abs() > 2e-5
        assert apart.float().mean() < 1e-4  # a value that rounding takes to either side of 128 is inverted or not
