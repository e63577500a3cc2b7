"""Gated attention written plainly, for autograd: what `gma_model` must agree with, and what a benchmark compares with."""

import torch
from torch import Tensor, nn

from microtome.gma_model import Nets, Shape


class PlainGma(nn.Module):
    """The network as the official code builds it, with torch's dropout."""

    def __init__(self, dim: int, hidden: int, attention: int, classes: int, dropout: float) -> None:
        super().__init__()
        drop = nn.Dropout(dropout)
        self.trunk = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), drop, nn.Linear(hidden, hidden), nn.ReLU(), drop)
        self.v = nn.Sequential(nn.Linear(hidden, attention), nn.Tanh(), drop)
        self.u = nn.Sequential(nn.Linear(hidden, attention), nn.Sigmoid(), drop)
        self.w, self.classifier = nn.Linear(attention, 1), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[t, dim] -> logits [1, classes], attention [t]."""
        h = self.trunk(x)
        a = torch.softmax(self.w(self.v(h) * self.u(h)).T, dim=1)
        return self.classifier(a @ h), a[0]

    def named(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by their names in `Shape.weights`; of the gate V, then U."""
        layers = {"trunk_1": [self.trunk[0]], "trunk_2": [self.trunk[3]], "gate": [self.v[0], self.u[0]]}
        layers |= {"score": [self.w], "classifier": [self.classifier]}
        named = {name: [layer.weight for layer in of_name] for name, of_name in layers.items()}
        return named | {f"{name}_bias": [layer.bias for layer in of_name] for name, of_name in layers.items()}


def plain(nets: Nets, net: int) -> PlainGma:
    """A plain network with the weights of one of `nets`."""
    shape: Shape = nets.shape
    copy = PlainGma(*shape).to(nets.device)
    with torch.no_grad():
        for name, parameters in copy.named().items():
            rows = nets.weights.view[name][net].split(len(nets.weights.view[name][net]) // len(parameters))
            for parameter, values in zip(parameters, rows if len(parameters) > 1 else [nets.weights.view[name][net]], strict=True):
                parameter.copy_(values.view(parameter.shape))
    return copy
