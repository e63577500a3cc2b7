"""What every algorithm shares: which parameters decay, and the norm of all gradients."""

import copy

import pytest
import torch
from torch import nn

from microtome.algorithm import gradients, norms_of, parameter_groups


class Network(nn.Module):
    """Every kind of parameter: matrices, kernels, tokens, biases (one of them two-dimensional), norms, and one that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.scale, self.token = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(1, 1, 4))
        self.fixed = nn.Parameter(torch.ones(4, 4), requires_grad=False)
        self.table = nn.Module()
        self.table.register_parameter("bias", nn.Parameter(torch.ones(2, 3)))


def test_weights_decay_and_nothing_else() -> None:
    """AdamW on gradients of 0 does nothing but decay."""
    network = Network()
    before = copy.deepcopy(network.state_dict())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    torch.optim.AdamW(parameter_groups(network), lr=0.1, weight_decay=0.5).step()
    decayed = {"conv.weight", "linear.weight", "token"}
    for name, now in network.state_dict().items():
        torch.testing.assert_close(now, before[name] * 0.95 if name in decayed else before[name], msg=name)


def test_every_trained_parameter_is_in_one_group() -> None:
    network = Network()
    grouped = [id(parameter) for group in parameter_groups(network) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters() if parameter.requires_grad)
    assert [len(group["params"]) for group in parameter_groups(network.requires_grad_(False))] == [0, 0]


def test_the_norm_of_all_gradients_is_torchs() -> None:
    network = Network()
    assert gradients(network) == []
    network.norm(network.conv(torch.randn(2, 3, 4, 4))).pow(3).sum().backward()
    found = gradients(network)
    assert len(found) == 4  # of conv and norm; the others took no part
    assert norms_of(found).tolist() == pytest.approx([gradient.double().norm().item() for gradient in found])
    assert float(norms_of(found).norm()) == pytest.approx(float(nn.utils.get_total_norm(found)))
    assert norms_of([torch.tensor([3.0, 4.0]), torch.zeros(2, 2)]).tolist() == [5, 0]
    assert norms_of([torch.tensor([3.0, float("nan")])]).isnan().all()
