"""On a GPU: the plain form's loss and gradients, steps in which the host never waits, and features wherever they fit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from microtome.bags import Files, read_bags
from microtome.gma_model import Nets, Part, Shape
from microtome.gma_optimizer import optimizer_of
from microtome.gma_training import Run, train
from tests.plain_gma import plain
from tests.test_gma import write_inputs
from tests.test_gma_model import first_step_is_the_same_in_any_company, with_dropout_gradients_are_those_of_what_was_kept
from tests.test_gma_training import drawn_bags, drawn_splits, settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
GPU = torch.device("cuda")


def test_the_first_step_is_the_same_in_any_company() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    first_step_is_the_same_in_any_company(Shape(384, 512, 384, 2, 0.25), (700, 1, 333), GPU)


def test_with_dropout_gradients_are_those_of_what_was_kept() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    with_dropout_gradients_are_those_of_what_was_kept(GPU)


def test_the_same_seed_gives_the_same_numbers() -> None:
    bags = drawn_bags()
    runs = [Run(split, replica) for split in drawn_splits(bags, 2) for replica in (1, 2)]
    first, second, other = (train(bags, runs, settings(seed, epochs=2), GPU) for seed in (0, 0, 1))
    for one, again, another in zip(first, second, other, strict=True):
        assert one.epochs == again.epochs
        assert one.epochs != another.epochs
        np.testing.assert_array_equal(one.probabilities, again.probabilities)


def parts_of(sizes: list[int], dim: int) -> list[Part]:
    return [Part(net, torch.randn(size, dim, device=GPU), [size]) for net, size in enumerate(sizes)]


def test_the_first_step_is_the_plain_forms() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    nets = Nets(Shape(32, 64, 48, 2, 0.0), [np.random.default_rng(net) for net in range(3)], 1000, GPU)
    parts, labels = parts_of([300, 1, 77], 32), torch.tensor([0, 1, 1], device=GPU)
    losses = nets.backward(nets.forward(parts, training=True)[0], one_hot(labels, 2).float())
    for part in parts:
        reference = plain(nets, part.net)
        loss = cross_entropy(reference(part.tiles)[0], labels[part.net : part.net + 1])
        loss.backward()
        torch.testing.assert_close(losses[part.net], loss.detach(), rtol=1e-5, atol=1e-5)
        for name, parameters in reference.named().items():
            gradient = torch.cat([parameter.grad for parameter in parameters]).reshape(nets.gradients.view[name][part.net].shape)
            torch.testing.assert_close(nets.gradients.view[name][part.net], gradient, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("tf32", [False, True])
def test_no_step_waits_for_the_device(tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = tf32
    nets = Nets(Shape(32, 64, 48, 2, 0.25), [np.random.default_rng(net) for net in range(3)], 1000, GPU)
    optimizer = optimizer_of(nets, settings(epochs=1).gma, [6, 6, 5])
    optimizer.begin_epoch()
    parts, wanted = parts_of([300, 1, 77], 32), one_hot(torch.tensor([0, 1, 1], device=GPU), 2).float()
    losses = torch.zeros(6, 3, device=GPU)
    for step in range(6):
        torch.cuda.set_sync_debug_mode("error" if step > 1 else "default")
        try:
            losses[step] = nets.backward(nets.forward(parts, training=True)[0], wanted)
            optimizer.step(step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(losses).all()
    assert torch.isfinite(nets.weights.flat).all()
    dropped = (nets.space["z"][:, 48:] == 0).float().mean().item()
    assert dropped == pytest.approx(1 - 0.75**2, abs=0.03)


def test_labels_are_learnt() -> None:
    bags = drawn_bags()
    runs = [Run(split, 1) for split in drawn_splits(bags, 4)]
    trained = train(bags, runs, settings(), GPU)  # from the memory of the host
    assert np.mean([run.epochs[-1].auc for run in trained]) > 0.9
    alone = train(bags, runs[2:3], settings(), GPU)[0]
    np.testing.assert_allclose(trained[2].probabilities, alone.probabilities, atol=2e-2)


def test_what_is_learnt_does_not_depend_on_where_features_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits, tables = write_inputs(tmp_path)
    task, where, found = pd.read_csv(splits), [], []
    for gpu_b, host_b in ((10**12, 10**9), (1, 10**9), (1, 0)):
        monkeypatch.setattr("microtome.bags.free_device_b", lambda _, free=gpu_b: free)
        monkeypatch.setattr("microtome.bags.free_host_b", lambda free=host_b: free)
        bags, _ = read_bags(tables, task, GPU)
        where.append("files" if isinstance(bags.features, Files) else "pinned" if bags.features.is_pinned() else bags.features.device.type)
        trained = train(bags, [Run(split, 1) for split in drawn_splits(drawn_bags(12), 2)], settings(epochs=2), GPU)
        found.append(trained[1].probabilities)
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)
    np.testing.assert_allclose(found[2], found[0], atol=1e-3)
    assert where == ["cuda", "pinned", "files"]
