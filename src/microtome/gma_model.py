"""Gated multiple-instance attention: a bag of tile features becomes one label (Ilse et al. 2018, as built by Campanella et al. 2023).

A bag is a slide: all its tiles, in no order that matters. The label of the slide is predicted from one vector, the mean of its tiles'
embeddings weighted by attention; the attention is learnt from the slide labels alone. Of one net:

    h = trunk(x): two linear maps, each with ReLU;   g = tanh(V h) ⊙ sigmoid(U h);   a = softmax over tiles of w · g;   logits = C (Σ a h)

Every linear map has a bias; dropout follows each non-linearity. Many nets of one shape step at once: their bags lie one after another in
the same buffers (ragged, no padding), so that on a GPU what is elementwise is one call for all; matrix products are a call a net. On a CPU
it goes in blocks of rows that fit its cache. Gradients are written out by hand: nothing is recorded, V and U are one product, and masks
are applied and forgotten, because backward can tell from a 0 that a value was dropped. What dropout scales by stands in the products.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 2**16  # a dropout probability is met to one part in this, on a CPU
BLOCK = 128  # rows that a CPU's cache holds
ALIGNED = 64  # floats: where a weight begins in memory, as matrix products like it
MATRICES = ("trunk_1", "trunk_2", "gate", "score", "classifier")


class Shape(NamedTuple):
    """Sizes of a net: of a tile's features, of its embedding h, of the gate, of the label; and the dropout probability."""

    dim: int
    hidden: int
    attention: int
    classes: int
    dropout: float

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Each weight's shape, matrices (which decay) before biases. `gate` is V above U. The score's bias is there for its name alone:
        softmax does not see it, so that its gradient is 0."""
        matrices = [(self.hidden, self.dim), (self.hidden, self.hidden), (2 * self.attention, self.hidden), (self.attention,)]
        biases = [(self.hidden,), (self.hidden,), (2 * self.attention,), (1,), (self.classes,)]
        names = [*MATRICES, *(f"{name}_bias" for name in MATRICES)]
        return dict(zip(names, [*matrices, (self.classes, self.hidden), *biases], strict=True))


class Part(NamedTuple):
    """Bags of one net: its number, their tiles [t, dim] float32 one bag after another, and how many tiles each has."""

    net: int
    tiles: Tensor
    bags: Sequence[int]


class Stack:
    """A buffer [nets, n] that holds one value for each weight of each net, and a view of it for each name, [nets, *shape].

    `decayed` is where matrices end and biases begin. What lies between weights is 0 and stays 0.
    """

    def __init__(self, shape: Shape, nets: int, device: torch.device) -> None:
        starts, end = {}, 0
        for name, of_one in shape.weights().items():
            starts[name] = end
            end += -(-int(np.prod(of_one)) // ALIGNED) * ALIGNED
        self.decayed = starts["trunk_1_bias"]
        self.flat = torch.zeros(nets, end, device=device)
        self.view = {
            name: self.flat[:, starts[name] : starts[name] + int(np.prod(of_one))].view(nets, *of_one)
            for name, of_one in shape.weights().items()
        }


class Nets:
    """Nets of one shape, their gradients, and the buffers of a step.

    Weights start Xavier-normal, biases at 0.

    Args:
        randoms: one a net, of its initial weights and ever after of its dropout: a net is the same in whatever company.
        rows: the most tiles that `forward` will be given at once.
    """

    def __init__(self, shape: Shape, randoms: Sequence[np.random.Generator], rows: int, device: torch.device) -> None:
        self.shape, self.rows, self.device = shape, rows, device
        self.weights, self.gradients = Stack(shape, len(randoms), device), Stack(shape, len(randoms), device)
        for net, random in enumerate(randoms):
            self._start(net, torch.Generator().manual_seed(int(random.integers(2**63))))
        self.draws = [Draws(random, device) for random in randoms]
        self.weight = {name: list(view) for name, view in self.weights.view.items()}
        self.transposed = {name: [one.T for one in self.weight[name]] for name in ("trunk_1", "trunk_2", "gate", "classifier")}
        self.gradient = {name: list(view) for name, view in self.gradients.view.items()}
        hidden, gate, block = shape.hidden, shape.attention, min(rows, BLOCK) if device.type == "cpu" else rows
        widths = {"h1": hidden, "h2": hidden, "z": 2 * gate, "gate": gate, "dh1": hidden, "dh2": hidden, "dz": 2 * gate}
        self.buffers = {name: torch.empty(rows, width, device=device) for name, width in widths.items()}
        self.buffers |= {name: torch.empty(rows, device=device) for name in ("scores", "attention", "dscores")}
        self.drawn, self.ones = torch.empty(block * max(hidden, gate), device=device), torch.ones(rows, device=device)
        self.joined = torch.empty(rows, shape.dim, device=device)

    def _start(self, net: int, generator: torch.Generator) -> None:
        v, u = torch.split(self.weights.view["gate"][net], self.shape.attention)
        trunk_1, trunk_2, _, score, classifier = (self.weights.view[name][net] for name in MATRICES)
        for matrix in (trunk_1, trunk_2, v, u, score[None], classifier):
            matrix.copy_(nn.init.xavier_normal_(torch.empty(matrix.shape), generator=generator))

    @staticmethod
    def bytes_a_tile(shape: Shape) -> int:
        """What a tile costs in the buffers of a step, its features among them: joined, in use, and sent (or widened) for the next."""
        return 4 * (3 * shape.dim + 4 * shape.hidden + 5 * shape.attention + max(shape.hidden, shape.attention) + 4)

    def join(self, tiles: Sequence[Tensor]) -> Tensor:
        """[all tiles, dim]: the tiles of bags one after another, in a buffer that the next call overwrites; of a single bag as they are."""
        return tiles[0] if len(tiles) == 1 else torch.cat(list(tiles), out=self.joined[: sum(map(len, tiles))])

    def forward(self, parts: Sequence[Part], training: bool) -> tuple[Tensor, Tensor]:
        """Judge bags; with dropout where `training`.

        Returns:
            logits: [bags, classes]. attention: [tiles], positive, of sum 1 over each bag; a view that the next call overwrites.
        """
        self.parts, self.sizes = parts, [len(part.tiles) for part in parts]
        self.space = {name: buffer[: sum(self.sizes)] for name, buffer in self.buffers.items()}
        self.keep = 1 - self.shape.dropout if training else 1.0
        self.pieces = self._pieces()
        self._map("trunk_1", [part.tiles for part in parts], "h1", relu=True)
        self._drop_all("h1")
        self._map("trunk_2", self._of_parts("h1"), "h2", 1 / self.keep, relu=True)
        self._drop_all("h2")
        self._map("gate", self._of_parts("h2"), "z", 1 / self.keep)
        for piece in self.pieces:
            tanh, sigmoid = torch.split(self.space["z"][piece.rows], self.shape.attention, dim=1)
            self._drop(sigmoid.sigmoid_(), piece, self.keep**2)  # of tanh and of sigmoid in one
            torch.mul(tanh.tanh_(), sigmoid, out=self.space["gate"][piece.rows])
        for part, gate, scores in zip(parts, self._of_parts("gate"), self._of_parts("scores"), strict=True):
            scores.addmv_(gate, self.weight["score"][part.net], beta=0, alpha=self.keep**-2)
        return self._logits(), self.space["attention"]

    def _of_parts(self, name: str) -> Sequence[Tensor]:
        return torch.split_with_sizes(self.space[name], self.sizes)

    def _pieces(self) -> list["Piece"]:
        """The rows of all parts: at once on a device, in blocks on a CPU, where draws do not depend on what else is in the buffers."""
        starts = list(accumulate(self.sizes, initial=0))
        whole = [(part.net, slice(start, start + size)) for part, start, size in zip(self.parts, starts, self.sizes, strict=False)]
        if self.device.type != "cpu":
            return [Piece(slice(0, starts[-1]), whole)]
        blocks = [(net, start, min(start + BLOCK, rows.stop)) for net, rows in whole for start in range(rows.start, rows.stop, BLOCK)]
        return [Piece(slice(start, stop), [(net, slice(0, stop - start))]) for net, start, stop in blocks]

    def _map(self, name: str, into: Sequence[Tensor], out: str, scale: float = 1.0, relu: bool = False) -> None:
        """A linear map of what was left by dropout, and not yet scaled. A product with a ReLU behind it is one call on a GPU."""
        product = torch._addmm_activation if relu else torch.addmm
        for part, x, y in zip(self.parts, into, self._of_parts(out), strict=True):
            product(self.weight[f"{name}_bias"][part.net], x, self.transposed[name][part.net], alpha=scale, out=y)

    def _drop_all(self, name: str) -> None:
        for piece in self.pieces:
            self._drop(self.space[name][piece.rows], piece, self.keep)

    def _drop(self, x: Tensor, piece: "Piece", share: float) -> None:
        """Keep a share of the values of a piece, and make the others 0."""
        if share == 1:
            return
        drawn = self.drawn[: x.numel()].view(x.shape)
        for net, rows in piece.nets:
            self.draws[net].fill(drawn[rows])
        torch.ops.aten.threshold_backward.grad_input(x, drawn, self.draws[0].threshold(1 - share), grad_input=x)

    def _logits(self) -> Tensor:
        bags = [tiles for part in self.parts for tiles in part.bags]
        self.pooled = torch.empty(len(bags), self.shape.hidden, device=self.device)
        views = (torch.split_with_sizes(self.space[name], bags) for name in ("h2", "scores", "attention"))
        for h2, scores, attention, pooled in zip(*views, self.pooled, strict=True):
            torch.softmax(scores, 0, out=attention)
            pooled.addmv_(h2.T, attention, beta=0, alpha=1 / self.keep)
        of_parts = zip(self.parts, torch.split_with_sizes(self.pooled, [len(part.bags) for part in self.parts]), strict=True)
        bias, classifier = self.weight["classifier_bias"], self.transposed["classifier"]
        return torch.cat([torch.addmm(bias[part.net], pooled, classifier[part.net]) for part, pooled in of_parts])

    def backward(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Write the gradients of the cross-entropy of what `forward` judged: nets that follow each other, a bag each.

        Args:
            logits: that it returned. wanted: [nets, classes], 1 at the label, else 0.

        Returns:
            [nets]: the losses.
        """
        nets = slice(self.parts[0].net, self.parts[-1].net + 1)
        dlogits = torch.softmax(logits, 1) - wanted
        torch.mul(dlogits[:, :, None], self.pooled[:, None, :], out=self.gradients.view["classifier"][nets])
        self.gradients.view["classifier_bias"][nets] = dlogits
        dpooled = torch.bmm(dlogits[:, None, :], self.weights.view["classifier"][nets])[:, 0]  # [nets, hidden]
        mean = (self.pooled * dpooled).sum(1)  # [nets]: Σ a da, by which the gradient of softmax is centred
        dpooled.mul_(1 / self.keep)
        self._scores_backward(dpooled, mean)
        self._gate_backward()
        score = self.weights.view["score"][nets].repeat(1, 2)[:, :, None]  # of tanh and of sigmoid: dz is without it
        scored = self.weights.view["gate"][nets] * score
        for a, dz, dh2, d, weight in zip(*map(self._of_parts, ("attention", "dz", "dh2")), dpooled, scored, strict=True):
            torch.outer(a, d, out=dh2).addmm_(dz, weight, alpha=1 / self.keep)
        self._map_backward("gate", "h2", "dz")
        self.gradients.view["gate"][nets].mul_(score)
        self.gradients.view["gate_bias"][nets].mul_(score[:, :, 0])
        self._relu_backward("h2", "dh2")
        for part, dh2, dh1 in zip(self.parts, self._of_parts("dh2"), self._of_parts("dh1"), strict=True):
            dh1.addmm_(dh2, self.weight["trunk_2"][part.net], beta=0, alpha=1 / self.keep)
        self._map_backward("trunk_2", "h1", "dh2")
        self._relu_backward("h1", "dh1")
        for part, dh1 in zip(self.parts, self._of_parts("dh1"), strict=True):
            torch.mm(dh1.T, part.tiles, out=self.gradient["trunk_1"][part.net])
            self._sum(dh1, self.gradient["trunk_1_bias"][part.net])
        return -(torch.log_softmax(logits, 1) * wanted).sum(1)

    def _scores_backward(self, dpooled: Tensor, mean: Tensor) -> None:
        """dscores = a (h · d - mean); what dropout scales by is in it."""
        scale = self.keep**-2
        views = map(self._of_parts, ("h2", "dscores"))
        for h2, ds, d, less in zip(*views, dpooled, (mean * -scale)[:, None], strict=True):
            torch.addmv(less, h2, d, alpha=scale, out=ds)
        self.space["dscores"].mul_(self.space["attention"])
        for part, gate, ds in zip(self.parts, *map(self._of_parts, ("gate", "dscores")), strict=True):
            torch.mv(gate.T, ds, out=self.gradient["score"][part.net])

    def _gate_backward(self) -> None:
        """tanh and sigmoid as forward left them; where sigmoid was dropped it is 0, and so are both gradients. Without the score's weights:
        they are the same for every tile, and stand in the products.
        """
        for piece in self.pieces:
            dz = self.space["dz"][piece.rows]
            tanh, sigmoid = torch.split(self.space["z"][piece.rows], self.shape.attention, dim=1)
            dv, du = torch.split(dz, self.shape.attention, dim=1)
            torch.ops.aten.tanh_backward.grad_input(sigmoid, tanh, grad_input=dv)
            torch.ops.aten.sigmoid_backward.grad_input(tanh, sigmoid, grad_input=du)
            dz.mul_(self.space["dscores"][piece.rows, None])

    def _relu_backward(self, h: str, dh: str) -> None:
        torch.ops.aten.threshold_backward.grad_input(self.space[dh], self.space[h], 0, grad_input=self.space[dh])

    def _map_backward(self, name: str, into: str, dout: str) -> None:
        for part, x, dy in zip(self.parts, self._of_parts(into), self._of_parts(dout), strict=True):
            self.gradient[name][part.net].addmm_(dy.T, x, beta=0, alpha=1 / self.keep)
            self._sum(dy, self.gradient[f"{name}_bias"][part.net])

    def _sum(self, rows: Tensor, out: Tensor) -> None:
        """The sum of all rows: a product with ones takes 0.7 of the time of `sum` on a GPU."""
        torch.mv(rows.T, self.ones[: len(rows)], out=out)


class Piece(NamedTuple):
    """Rows of the buffers that one elementwise call takes, and which of them, counted from the first, belong to which net."""

    rows: slice
    nets: list[tuple[int, slice]]


class Draws:
    """The numbers that decide what a net drops: on a CPU from NumPy, ten times as fast as torch there, else from a stream of the device."""

    def __init__(self, random: np.random.Generator, device: torch.device) -> None:
        self.bits = random.bit_generator
        self.stream = None if device.type == "cpu" else torch.Generator(device).manual_seed(int(random.integers(2**63)))

    def fill(self, out: Tensor) -> None:
        """Draw `out`, float32: whole numbers of 16 bits on a CPU, from [0, 1) on a device."""
        if self.stream is not None:
            out.uniform_(generator=self.stream)
            return
        drawn = self.bits.random_raw(-(-out.numel() // 4)).view(np.int16)  # 64 random bits are four draws
        np.copyto(out.view(-1).numpy(), drawn[: out.numel()])

    def threshold(self, probability: float) -> float:
        """Draws above it have 1 - `probability`."""
        return probability if self.stream is not None else round(probability * LEVELS) - LEVELS / 2 - 0.5
