from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from microtome.gma_model import BLOCK, MATRICES, Draws, Nets, Part, Shape
from tests.plain_gma import plain

CPU = torch.device("cpu")


SMALL = Shape(6, 5, 4, 2, 0.0)


def nets(count: int = 1, shape: Shape = SMALL, seed: int = 0, rows: int = 400) -> Nets:
    return Nets(shape, [np.random.default_rng([seed, net]) for net in range(count)], rows, CPU)


def bag(tiles: int, dim: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(tiles, dim))).float()


@pytest.mark.parametrize(("dim", "parameters"), [(384, 855_171), (768, 1_051_779), (1024, 1_182_851), (2048, 1_707_139)])
def test_the_published_size(dim: int, parameters: int) -> None:
    assert sum(int(np.prod(of_one)) for of_one in Shape(dim, 512, 384, 2, 0.25).weights().values()) == parameters


def naive(weights: dict[str, np.ndarray], tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The formulas of Ilse et al., tile by tile, in float64."""
    linear = lambda name, x: weights[name] @ x + weights[f"{name}_bias"]  # noqa: E731
    embeddings, scores = [], []
    for x in tiles:
        h = np.maximum(linear("trunk_2", np.maximum(linear("trunk_1", x), 0)), 0)
        v, u = np.split(linear("gate", h), 2)
        embeddings.append(h)
        scores.append(float(linear("score", np.tanh(v) / (1 + np.exp(-u)))[0]))
    attention = np.exp(np.array(scores) - max(scores))
    attention /= attention.sum()
    return linear("classifier", sum(a * h for a, h in zip(attention, embeddings, strict=True))), attention


def in_float64(net: Nets) -> dict[str, np.ndarray]:
    return {name: view[0].double().numpy().copy() for name, view in net.weights.view.items()}


def test_forward_is_the_formula() -> None:
    net, tiles = nets(), bag(7)
    expected_logits, expected_attention = naive(in_float64(net), tiles.double().numpy())
    logits, attention = net.forward([Part(0, tiles, [7])], training=False)
    np.testing.assert_allclose(logits[0], expected_logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(attention, expected_attention, rtol=1e-5)


def test_gradients_are_the_formulas() -> None:
    """Against central differences of the float64 formula."""
    net, tiles = nets(), bag(7)
    loss_found = net.backward(net.forward([Part(0, tiles, [7])], training=True)[0], torch.tensor([[0.0, 1.0]]))
    weights = in_float64(net)

    def loss() -> float:
        logits = naive(weights, tiles.double().numpy())[0]
        return float(np.log(np.exp(logits).sum()) - logits[1])

    assert loss_found.item() == pytest.approx(loss(), rel=1e-5)
    step = 1e-5
    for name, values in weights.items():
        for place in np.ndindex(*values.shape):
            middle = values[place]
            values[place] = middle + step
            above = loss()
            values[place] = middle - step
            numeric = (above - loss()) / (2 * step)
            values[place] = middle
            assert net.gradients.view[name][0][place].item() == pytest.approx(numeric, rel=1e-3, abs=2e-6), name


def test_ragged_bags_of_many_nets_have_the_plain_forms_losses_and_gradients() -> None:
    """Three nets, a bag of another size each, one of them larger than a block; three classes."""
    together, sizes, labels = nets(3, Shape(12, 16, 8, 3, 0.0)), (9, 1, 300), (2, 0, 1)
    bags = [bag(size, 12, size) for size in sizes]
    logits, attention = together.forward([Part(net, tiles, [len(tiles)]) for net, tiles in enumerate(bags)], training=True)
    losses = together.backward(logits, one_hot(torch.tensor(labels), 3).float())
    for net, (tiles, label, of_net) in enumerate(zip(bags, labels, attention.split(sizes), strict=True)):
        reference = plain(together, net)
        expected, expected_attention = reference(tiles)
        loss = cross_entropy(expected, torch.tensor([label]))
        loss.backward()
        torch.testing.assert_close(losses[net], loss.detach(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(of_net, expected_attention.detach(), rtol=1e-5, atol=1e-5)
        for name, parameters in reference.named().items():
            gradient = torch.cat([parameter.grad for parameter in parameters]).reshape(together.gradients.view[name][net].shape)
            torch.testing.assert_close(together.gradients.view[name][net], gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_with_dropout_gradients_are_those_of_what_was_kept() -> None:
    with_dropout_gradients_are_those_of_what_was_kept(CPU)


def with_dropout_gradients_are_those_of_what_was_kept(device: torch.device) -> None:
    """Two nets with their dropout written out: the same losses by autograd, with masks read from where the buffers are 0."""
    both = Nets(Shape(6, 32, 16, 2, 0.25), [np.random.default_rng(net) for net in range(2)], 400, device)
    bags = [bag(tiles, seed=tiles).to(device) for tiles in (150, 90)]
    logits, _ = both.forward([Part(net, tiles, [len(tiles)]) for net, tiles in enumerate(bags)], training=True)
    space = {name: both.space[name].split([150, 90]) for name in ("h1", "h2", "z")}
    losses, keep = both.backward(logits, torch.tensor([[0.0, 1.0], [1.0, 0.0]], device=device)), 0.75
    for net, tiles in enumerate(bags):
        w = {name: view[net].clone().requires_grad_() for name, view in both.weights.view.items()}
        h1 = (tiles @ w["trunk_1"].T + w["trunk_1_bias"]).relu() * (space["h1"][net] > 0) / keep
        h2 = (h1 @ w["trunk_2"].T + w["trunk_2_bias"]).relu() * (space["h2"][net] > 0) / keep
        v, u = (h2 @ w["gate"].T + w["gate_bias"]).split(16, dim=1)
        gate = v.tanh() * u.sigmoid() * (space["z"][net][:, 16:] > 0) / keep**2
        expected = w["classifier"] @ (torch.softmax(gate @ w["score"], 0) @ h2) + w["classifier_bias"]
        torch.testing.assert_close(logits[net], expected.detach(), rtol=1e-5, atol=1e-5)
        loss = cross_entropy(expected[None], torch.tensor([1 - net], device=device))
        loss.backward()
        torch.testing.assert_close(losses[net], loss.detach(), rtol=1e-5, atol=1e-5)
        for name, weight in w.items():
            if name != "score_bias":
                torch.testing.assert_close(both.gradients.view[name][net], weight.grad, rtol=1e-4, atol=1e-5, msg=name)
    dropped = [(both.space["z"][:, 16:] == 0).float().mean().item(), (both.space["h1"] == 0).float().mean().item()]
    assert dropped[0] == pytest.approx(1 - keep**2, abs=0.04), "of tanh and of sigmoid, each a quarter"
    assert dropped[1] > 0.25


def test_bags_judged_together_are_bags_judged_alone() -> None:
    net, sizes = nets(), [3, 1, 130]
    bags = [bag(size, seed=size) for size in sizes]
    alone = [[x.clone() for x in net.forward([Part(0, tiles, [len(tiles)])], training=False)] for tiles in bags]
    logits, attention = net.forward([Part(0, net.join(bags), sizes)], training=False)
    torch.testing.assert_close(logits, torch.cat([one[0] for one in alone]))
    torch.testing.assert_close(attention, torch.cat([one[1] for one in alone]))


def test_a_net_draws_the_same_in_any_company() -> None:
    shape, tiles = Shape(6, 32, 16, 2, 0.25), bag(200)
    randoms = [np.random.default_rng(seed) for seed in (0, 1)]
    pair, alone = Nets(shape, randoms, 400, CPU), Nets(shape, [np.random.default_rng(1)], 400, CPU)
    for _ in range(2):
        of_pair = pair.forward([Part(0, bag(77), [77]), Part(1, tiles, [200])], training=True)[0][1]
        torch.testing.assert_close(of_pair, alone.forward([Part(0, tiles, [200])], training=True)[0][0])


def first_step_is_the_same_in_any_company(shape: Shape, sizes: Sequence[int], device: torch.device) -> None:
    """Losses and gradients of nets with dropout, a bag each, within 1e-5 of those of each net alone."""
    together, *alone = (
        Nets(shape, [np.random.default_rng([3, net]) for net in nets], sum(sizes), device)
        for nets in (range(len(sizes)), *([net] for net in range(len(sizes))))
    )
    bags = [bag(size, shape.dim, size).to(device) for size in sizes]
    wanted = one_hot(torch.arange(len(sizes)) % shape.classes, shape.classes).float().to(device)
    parts = [Part(net, tiles, [len(tiles)]) for net, tiles in enumerate(bags)]
    losses = together.backward(together.forward(parts, training=True)[0], wanted)
    dropped = (together.space["z"][:, shape.attention :] == 0).float().mean().item()
    assert dropped == pytest.approx(1 - (1 - shape.dropout) ** 2, abs=0.05)
    for number, (net, tiles) in enumerate(zip(alone, bags, strict=True)):
        loss = net.backward(net.forward([Part(0, tiles, [len(tiles)])], training=True)[0], wanted[number : number + 1])
        torch.testing.assert_close(losses[number], loss[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.gradients.flat[number], net.gradients.flat[0], rtol=1e-5, atol=1e-5)


def test_the_first_step_is_the_same_in_any_company() -> None:
    first_step_is_the_same_in_any_company(Shape(384, 512, 384, 2, 0.25), (40, 1, 150), CPU)


def test_a_step_costs_what_it_is_said_to() -> None:
    """Its buffers, and the two beside them from which features that are not on the device are used in turn."""
    for shape in (Shape(12, 16, 8, 3, 0.25), Shape(8, 8, 16, 2, 0.25)):
        net = nets(1, shape, rows=BLOCK)
        held = [*net.buffers.values(), net.drawn, net.ones, net.joined, *torch.empty(2, BLOCK, shape.dim)]
        assert sum(buffer.nbytes for buffer in held) == BLOCK * Nets.bytes_a_tile(shape)


def test_the_order_of_tiles_does_not_matter() -> None:
    net, tiles, order = nets(), bag(9), torch.randperm(9)
    logits, attention = (x.clone() for x in net.forward([Part(0, tiles, [9])], training=False))
    shuffled, shuffled_attention = net.forward([Part(0, tiles[order], [9])], training=False)
    torch.testing.assert_close(shuffled, logits)
    torch.testing.assert_close(shuffled_attention, attention[order])
    assert attention.sum().item() == pytest.approx(1)


def test_initial_weights_are_xavier_normal_and_follow_from_the_generator() -> None:
    torch.manual_seed(1)
    first = nets(2, Shape(200, 300, 100, 2, 0.25), seed=4)
    torch.manual_seed(2)
    second, other = nets(2, Shape(200, 300, 100, 2, 0.25), seed=4), nets(2, Shape(200, 300, 100, 2, 0.25), seed=5)
    assert torch.equal(first.weights.flat, second.weights.flat)
    assert not torch.equal(first.weights.flat[0], first.weights.flat[1])
    assert not torch.equal(first.weights.flat, other.weights.flat)
    assert first.weights.view["trunk_1"].std().item() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert first.weights.view["gate"].std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02), "V and U by their own sizes"
    assert not first.weights.flat[:, first.weights.decayed :].any(), "biases"
    assert all(first.weights.view[name].any() for name in MATRICES)


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5])
def test_draws(probability: float) -> None:
    draws, out = Draws(np.random.default_rng(0), CPU), torch.empty(301, 333)
    draws.fill(out)
    kept = out > draws.threshold(probability)
    assert 1 - kept.float().mean().item() == pytest.approx(probability, abs=5 * (probability * (1 - probability) / out.numel()) ** 0.5)
    both = ~kept[:, 1:] & ~kept[:, :-1]
    assert both.float().mean().item() == pytest.approx(probability**2, abs=0.006), "neighbours are independent"
    before = out.clone()
    draws.fill(out)
    assert not torch.equal(out, before)
