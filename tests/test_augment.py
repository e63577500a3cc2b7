"""Augmentations, all composed, against torchvision's operations on the same parameters; and what the draws promise."""

import numpy as np
import pytest
import torch

from microtome.augment import GRAY_PROBABILITY, JITTER, JITTER_PROBABILITY, Parameters, View, draw, recolour, together, views
from microtome.colour import BLUR_RADIUS_PX
from microtome.vision_models import backbone  # noqa: F401  (it mends torchvision, which is imported next)
from tests.test_colour import images
from tests.training import photo

import torchvision.transforms.v2.functional as reference  # isort: skip

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def one_by_one(image: torch.Tensor, parameters: Parameters, sample: int) -> torch.Tensor:
    """What happens to a sample, in torchvision's operations."""
    jitter = [reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation, reference.adjust_hue]
    if parameters.jitter[sample]:
        for operation in parameters.order[sample]:
            image = jitter[operation](image, float(parameters.factors[sample, operation]))
    if parameters.gray[sample]:
        image = reference.rgb_to_grayscale(image, 3)
    if parameters.blur_sigma_px[sample] > 0:
        image = reference.gaussian_blur(image, [2 * BLUR_RADIUS_PX + 1] * 2, [float(parameters.blur_sigma_px[sample])] * 2)
    return reference.solarize(image, 128 / 255) if parameters.solarize[sample] else image


def test_views_composed_are_torchvisions() -> None:
    tiles, positions = photo(24, 64), np.arange(100, 124)
    group = [(0, View(40, (0.4, 1.0), True, 1.0)), (1, View(40, (0.4, 1.0), True, 0.1, 0.2))]
    found = views(tiles, group, 3, 7, positions, MEAN, STD)
    parameters = together([draw(view, number, 64, 3, 7, positions) for number, view in group])
    for sample, image in enumerate(found):
        top, left, height, width = parameters.boxes[sample]
        cut = reference.resized_crop(tiles[sample % 24].permute(2, 0, 1), top, left, height, width, [40, 40], 3, antialias=True)
        cut = reference.horizontal_flip(cut) if parameters.flip[sample] else cut
        expected = reference.normalize(one_by_one(cut.float() / 255, parameters, sample), list(MEAN), list(STD))
        assert torch.allclose(image, expected, atol=2e-5)


def test_every_kind_of_recolouring_is_met_in_the_composition() -> None:
    drawn = together([draw(View(40, (0.4, 1.0), True, 0.5, 0.2), 1, 64, 3, 7, np.arange(48))])
    assert drawn.gray.any()
    assert drawn.solarize.any()
    assert (drawn.blur_sigma_px > 0).any()
    assert len(np.unique(drawn.order, axis=0)) > 12


def test_a_sample_is_the_same_whoever_stands_beside_it() -> None:
    tiles, positions = photo(12, 64), np.arange(12)
    group = [(2, View(32, (0.05, 0.4), True, 0.5)), (3, View(32, (0.05, 0.4), True, 0.5))]
    all_at_once = views(tiles, group, 0, 1, positions, MEAN, STD).unflatten(0, (2, 12))
    parts = [views(tiles[part], group, 0, 1, positions[part], MEAN, STD).unflatten(0, (2, -1)) for part in (slice(0, 5), slice(5, 12))]
    assert torch.equal(all_at_once, torch.cat(parts, dim=1))
    assert not torch.equal(all_at_once, views(tiles, group, 0, 2, positions, MEAN, STD).unflatten(0, (2, 12)))


def test_draws_have_the_published_probabilities_and_ranges() -> None:
    n = 20000
    drawn = draw(View(224, (0.4, 1.0), True, 0.1, 0.2), 1, 256, 0, 1, np.arange(n))
    for found, probability in (
        (drawn.flip, 0.5),
        (drawn.jitter, JITTER_PROBABILITY),
        (drawn.gray, GRAY_PROBABILITY),
        (drawn.blur_sigma_px > 0, 0.1),
        (drawn.solarize, 0.2),
    ):
        assert found.mean() == pytest.approx(probability, abs=4 * (probability * (1 - probability) / n) ** 0.5)
    for number, (neutral, strength) in enumerate(zip((1, 1, 1, 0), JITTER.values(), strict=True)):
        factors = drawn.factors[:, number]
        assert factors.min() == pytest.approx(neutral - strength, abs=0.01 * strength)
        assert factors.max() == pytest.approx(neutral + strength, abs=0.01 * strength)
    area = drawn.boxes[:, 2] * drawn.boxes[:, 3] / 256**2
    assert area.min() == pytest.approx(0.4, abs=0.01)
    assert 0.99 < area.max() <= 1.0
    plain = draw(View(224, (0.2, 1.0), False), 0, 256, 0, 1, np.arange(1000))
    assert not any(values.any() for values in (plain.jitter, plain.gray, plain.blur_sigma_px, plain.solarize))


def test_recolouring_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = draw(View(40, (0.4, 1.0), True, 0.5, 0.2), 0, 64, 0, 1, np.arange(5))
    whole = recolour(images(), parameters)
    monkeypatch.setattr("microtome.augment.CACHE_FLOATS", 2 * 3 * 40 * 40)
    assert torch.equal(recolour(images(), parameters), whole)
