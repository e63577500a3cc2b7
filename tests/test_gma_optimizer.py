import numpy as np
import pytest
import torch

from microtome.gma_model import Nets, Shape
from microtome.gma_optimizer import OfAllNets, OfOneNet, optimizer_of, step_schedule
from tests.test_gma_training import CPU, settings


def test_schedules_at_their_ends() -> None:
    lr, weight_decay = zip(*step_schedule(settings(epochs=50, warmup_epochs=10, lr=1e-4).gma, 80), strict=True)
    assert len(lr) == 4000
    assert lr[0] == 0
    assert lr[799] == lr[800] == 1e-4, "the warm-up's last step and the cosine's first"
    assert np.argmax(lr) == 799
    assert lr[2400] == pytest.approx((1e-4 + 1e-6) / 2)
    assert lr[-1] == pytest.approx(1e-6, rel=1e-3)
    assert weight_decay[0] == pytest.approx(0.04)
    assert weight_decay[2000] == pytest.approx(0.22)
    assert weight_decay[-1] == pytest.approx(0.4, rel=1e-5)
    assert all(np.diff(weight_decay) > 0)


def test_warm_up_may_be_all_or_nothing() -> None:
    assert next(step_schedule(settings(warmup_epochs=0).gma, 10))[0] == 0.003
    assert max(lr for lr, _ in step_schedule(settings(epochs=2, warmup_epochs=10).gma, 10)) < 0.003


def test_nets_of_unequal_schedules_move_as_torchs_adamw_moves_each() -> None:
    """Five and three steps an epoch, two epochs: the second net idles twice, and its weights and moments stay."""
    gma, shape, slides = settings(epochs=2, warmup_epochs=1).gma, Shape(6, 5, 4, 2, 0.0), [5, 3]
    randoms = lambda: [np.random.default_rng(net) for net in (0, 1)]  # noqa: E731
    together = Nets(shape, randoms(), 1, CPU)
    alone = [Nets(shape, [random], 1, CPU) for random in randoms()]
    stacked, single = optimizer_of(together, gma, slides), [optimizer_of(net, gma, [n]) for net, n in zip(alone, slides, strict=True)]
    assert isinstance(stacked, OfAllNets)
    assert isinstance(single[0], OfOneNet)
    random = np.random.default_rng(7)
    for _ in range(2):
        stacked.begin_epoch()
        for step in range(5):
            gradients = torch.from_numpy(random.normal(size=together.weights.flat.shape)).float()
            together.gradients.flat.copy_(gradients)
            stacked.step(step)
            for net, (one, optimizer) in enumerate(zip(alone, single, strict=True)):
                if step < slides[net]:
                    one.gradients.flat.copy_(gradients[net : net + 1])
                    optimizer.step(step)
                torch.testing.assert_close(together.weights.flat[net], one.weights.flat[0], rtol=1e-5, atol=1e-7)
