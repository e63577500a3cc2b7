"""Gated multiple-instance attention: a bag of tile features becomes one label (Ilse et al. 2018, as built by Campanella et al. 2023).

A bag is a slide: all its tiles, in no order that matters. The label of the slide is predicted from one vector, the mean of its tiles'
embeddings weighted by attention; the attention is learnt from the slide labels alone.
"""

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 2**16  # a dropout probability is met to one part in this


class GatedAttention(nn.Module):
    """h = trunk(x); a = softmax over tiles of w · (tanh(V h) ⊙ sigmoid(U h)); logits = C (Σ a h). Every linear map has a bias.

    Dropout follows each non-linearity. Weights start Xavier-normal, biases at 0.

    Args:
        dim: of a tile's features. hidden: of its embedding h. attention: of the gate. classes: of the label. dropout: probability.
        random: of the initial weights, and of the dropout masks ever after.
    """

    def __init__(self, dim: int, hidden: int, attention: int, classes: int, dropout: float, random: np.random.Generator) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Linear(dim, hidden), nn.ReLU(), Dropout(dropout, random)),
            *(nn.Linear(hidden, hidden), nn.ReLU(), Dropout(dropout, random)),
        )
        self.attention_tanh = nn.Sequential(nn.Linear(hidden, attention), nn.Tanh(), Dropout(dropout, random))
        self.attention_sigmoid = nn.Sequential(nn.Linear(hidden, attention), nn.Sigmoid(), Dropout(dropout, random))
        self.attention_score = nn.Linear(attention, 1)
        self.classifier = nn.Linear(hidden, classes)
        start = torch.Generator().manual_seed(int(random.integers(2**63)))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight, generator=start)
                nn.init.zeros_(module.bias)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Judge one bag.

        Args:
            tiles: [t, dim] float32, all tiles of a slide.

        Returns:
            logits: [classes]. attention: [t], the tiles' weights, positive, of sum 1.
        """
        embeddings = self.trunk(tiles)  # [t, hidden]
        gate = self.attention_tanh(embeddings) * self.attention_sigmoid(embeddings)  # [t, attention]
        attention = torch.softmax(self.attention_score(gate).squeeze(1), dim=0)  # [t]
        return self.classifier(attention @ embeddings), attention


class Dropout(nn.Module):
    """Dropout with masks from a NumPy generator: independent of whatever else draws from torch, and ten times as fast on a CPU."""

    def __init__(self, probability: float, random: np.random.Generator) -> None:
        super().__init__()
        self.probability = probability
        self.random = random

    def forward(self, x: Tensor) -> Tensor:
        """In training, zero each value with the probability and scale the others so that the mean stays; else pass `x` on."""
        if not self.training or self.probability == 0:
            return x
        draws = self.random.bit_generator.random_raw(-(-x.numel() // 4)).view(np.uint16)[: x.numel()]  # 64 random bits are four draws
        mask = np.multiply(draws >= self.probability * LEVELS, np.float32(1 / (1 - self.probability)), dtype=np.float32)
        return x * torch.from_numpy(mask).view(x.shape).to(x.device)


def decayed_and_not(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters under weight decay (matrices), and those that are not (biases)."""
    parameters = list(model.parameters())
    return [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
