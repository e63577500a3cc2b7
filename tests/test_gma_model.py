import numpy as np
import pytest
import torch
from torch import nn

from microtome.gma_model import Dropout, GatedAttention, decayed_and_not


def model(dim: int = 6, hidden: int = 5, attention: int = 4, dropout: float = 0.0, seed: int = 0) -> GatedAttention:
    return GatedAttention(dim, hidden, attention, 2, dropout, np.random.default_rng(seed))


@pytest.mark.parametrize(("dim", "parameters"), [(384, 855_171), (768, 1_051_779), (1024, 1_182_851), (2048, 1_707_139)])
def test_the_published_size(dim: int, parameters: int) -> None:
    assert sum(p.numel() for p in model(dim, 512, 384).parameters()) == parameters


def naive(weights: dict[str, np.ndarray], tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The formulas of Ilse et al., tile by tile, in float64."""
    linear = lambda name, x: weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]  # noqa: E731
    embeddings, scores = [], []
    for x in tiles:
        h = np.maximum(linear("trunk.3", np.maximum(linear("trunk.0", x), 0)), 0)
        gate = np.tanh(linear("attention_tanh.0", h)) / (1 + np.exp(-linear("attention_sigmoid.0", h)))
        embeddings.append(h)
        scores.append(float(linear("attention_score", gate)[0]))
    attention = np.exp(np.array(scores) - max(scores))
    attention /= attention.sum()
    return linear("classifier", sum(a * h for a, h in zip(attention, embeddings, strict=True))), attention


def test_forward_is_the_formula() -> None:
    net, tiles = model(), np.random.default_rng(1).normal(size=(7, 6))
    weights = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    logits, attention = net(torch.from_numpy(tiles).float())
    expected_logits, expected_attention = naive(weights, tiles)
    np.testing.assert_allclose(logits.detach().numpy(), expected_logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(attention.detach().numpy(), expected_attention, rtol=1e-5)


def test_gradients_are_the_formulas() -> None:
    """Against central differences of the float64 formula."""
    net, tiles = model(), np.random.default_rng(1).normal(size=(7, 6))
    logits, _ = net(torch.from_numpy(tiles).float())
    nn.functional.cross_entropy(logits, torch.tensor(1)).backward()
    weights = {name: tensor.detach().double().numpy().copy() for name, tensor in net.named_parameters()}

    def loss() -> float:
        logits = naive(weights, tiles)[0]
        return float(np.log(np.exp(logits).sum()) - logits[1])

    step = 1e-5
    for name, parameter in net.named_parameters():
        for place in np.ndindex(*parameter.shape):
            middle = weights[name][place]
            weights[name][place] = middle + step
            above = loss()
            weights[name][place] = middle - step
            numeric = (above - loss()) / (2 * step)
            weights[name][place] = middle
            assert parameter.grad[place].item() == pytest.approx(numeric, rel=1e-3, abs=2e-6), name


def test_the_order_of_tiles_does_not_matter() -> None:
    net, tiles = model().eval(), torch.randn(9, 6)
    order = torch.randperm(9)
    torch.testing.assert_close(net(tiles)[0], net(tiles[order])[0])
    torch.testing.assert_close(net(tiles)[1][order], net(tiles[order])[1])
    assert net(tiles)[1].sum().item() == pytest.approx(1)


def test_initial_weights_are_xavier_normal_and_follow_from_the_generator() -> None:
    torch.manual_seed(1)
    first = model(200, 300, 100, seed=4)
    torch.manual_seed(2)
    second, other = model(200, 300, 100, seed=4), model(200, 300, 100, seed=5)
    assert torch.equal(first.trunk[0].weight, second.trunk[0].weight)
    assert not torch.equal(first.trunk[0].weight, other.trunk[0].weight)
    assert first.trunk[0].weight.std().item() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert all(not p.any() for p in first.parameters() if p.ndim == 1)


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5])
def test_dropout(probability: float) -> None:
    layer, x = Dropout(probability, np.random.default_rng(0)), torch.ones(301, 333)
    out = layer(x)
    dropped = (out == 0).float().mean().item()
    assert dropped == pytest.approx(probability, abs=5 * (probability * (1 - probability) / x.numel()) ** 0.5)
    assert out.max().item() == pytest.approx(1 / (1 - probability))
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    both = (out[:, 1:] == 0) & (out[:, :-1] == 0)
    assert both.float().mean().item() == pytest.approx(probability**2, abs=0.006), "neighbours are independent"
    assert not torch.equal(out, layer(x))
    assert torch.equal(layer.eval()(x), x)


def test_only_matrices_decay() -> None:
    decayed, not_decayed = decayed_and_not(model())
    assert len(decayed) == len(not_decayed) == 6
    assert all(p.ndim == 2 for p in decayed)
