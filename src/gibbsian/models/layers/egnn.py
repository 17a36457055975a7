"""An E(3)-equivariant graph network on the complete graph of a molecule's atoms, and the exact trace of its Jacobian.

A layer computes a message for each ordered pair of atoms and from the messages moves atoms and updates their features
(arXiv 2102.09844, with attention; the bounded move as in arXiv 2406.14426):

    p_ij = A h_i + B h_j + w |x_i - x_j|^2 + w0 |x_i - x_j|_0^2 + b           distances now and at the input
    m_ij = silu(C silu(p_ij) + c),   g_ij = e_ij m_ij,   e_ij = sigmoid(a . m_ij + a0)
    x_i' = x_i + sum_j f_ij (x_i - x_j) / (|x_i - x_j| + 1),   f_ij = range tanh(d . silu(D g_ij + d0))
    h_i' = h_i + F silu(E [h_i, sum_j g_ij] + e0) + f0

All tensors are dense, (B, n, n, width): for molecules that a flow can model this is faster than lists of edges.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

TINY = 1e-8
"""Added to squared distances (unit lengths) under the root, which has no derivative at zero."""
FIRST_MOVES = 1e-3
"""Gain of the weights that move atoms: a new network hardly moves any."""


class Pairs(NamedTuple):
    """Geometry of all ordered pairs of atoms: x_i - x_j (B, n, n, 3) and its square (B, n, n)."""

    vector: Tensor
    square: Tensor


def pairs_of(x: Tensor) -> Pairs:
    """Geometry of conformations `x` (B, n, 3)."""
    vector = x[:, :, None] - x[:, None, :]
    return Pairs(vector, vector.square().sum(-1))


class Messages(NamedTuple):
    """What a layer computes for each pair (B, n, n, ...), named as in the formulas of the module.

    `p`, `q`, `m`, `g` have `width` numbers; `q` is what the second silu is applied to; `attention` is (B, n, n, 1).
    """

    p: Tensor
    q: Tensor
    m: Tensor
    attention: Tensor
    g: Tensor


class EquivariantLayer(nn.Module):
    """One layer of the module's formulas.

    Parameters
    ----------
    width
        Features per atom and per message.
    reach
        Bound of the factor `f_ij`.
    last
        Move atoms only; the features are not needed any more.
    """

    def __init__(self, width: int, reach: float, last: bool) -> None:
        super().__init__()
        self.width, self.reach, self.last = width, reach, last
        self.pair = nn.Linear(2 * width + 2, width)
        self.message = nn.Linear(width, width)
        self.attention = nn.Linear(width, 1)
        self.move = nn.Linear(width, width)
        self.factor = nn.Linear(width, 1, bias=False)
        nn.init.xavier_uniform_(self.factor.weight, gain=FIRST_MOVES)
        if not last:
            self.update = nn.Linear(2 * width, width)
            self.change = nn.Linear(width, width)

    def forward(self, x: Tensor, h: Tensor, first: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return moved atoms (B, n, 3) and new features (B, n, width).

        `first` (B, n, n) are the squared distances at the input of the network, `others` (n, n, 1) is zero on the
        diagonal and one elsewhere.
        """
        pairs = pairs_of(x)
        messages = self.messages(h, pairs.square, first, others)
        factor = self.reach * torch.tanh(self.factor(silu(self.move(messages.g))))
        x = x + (factor * directions(pairs)).sum(2)
        return x, h if self.last else self.features(h, messages.g.sum(2))

    def messages(self, h: Tensor, square: Tensor, first: Tensor, others: Tensor) -> Messages:
        """Messages of all pairs; those of an atom to itself are zero."""
        receiver, sender, now, then = self.split()
        p = nn.functional.linear(h, receiver, self.pair.bias)[:, :, None] + nn.functional.linear(h, sender)[:, None]
        p = p + square[..., None] * now + first[..., None] * then
        q = self.message(silu(p))
        m = silu(q)
        attention = torch.sigmoid(self.attention(m)) * others
        return Messages(p, q, m, attention, attention * m)

    def features(self, h: Tensor, received: Tensor) -> Tensor:
        """Return new features (B, n, width) from the sums of messages."""
        return h + self.change(silu(self.update(torch.cat([h, received], -1))))

    def split(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Parts of the first matrix: of receiver and sender (width, width), of the two squared distances (width,)."""
        receiver, sender, square = self.pair.weight.split([self.width, self.width, 2], 1)
        return receiver, sender, square[:, 0], square[:, 1]


def directions(pairs: Pairs) -> Tensor:
    """Bounded direction of each pair, (x_i - x_j) / (|x_i - x_j| + 1), (B, n, n, 3)."""
    return pairs.vector / (torch.sqrt(pairs.square + TINY) + 1.0)[..., None]


class EquivariantField(nn.Module):
    """A velocity of every atom: equivariant under rotation and reflection, and under exchange within a class.

    Parameters
    ----------
    classes
        (n,) class of each atom, from 0.
    width, depth
        Features per atom, layers.
    reach
        Bound of the factors of all layers together, unit lengths.
    """

    def __init__(self, classes: Tensor, width: int, depth: int, reach: float) -> None:
        super().__init__()
        self.kinds: Tensor
        self.register_buffer("kinds", nn.functional.one_hot(classes).float(), persistent=False)
        self.others: Tensor
        self.register_buffer("others", 1.0 - torch.eye(len(classes))[..., None], persistent=False)
        self.embedding = nn.Linear(self.kinds.shape[1] + 1, width)
        layers = [EquivariantLayer(width, reach / depth, index == depth - 1) for index in range(depth)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Mean-free velocity (B, n, 3) of atoms `x` (B, n, 3) at times `t` (B,)."""
        first, h, moved = pairs_of(x).square, self.embed(t), x
        for layer in self.layers:
            moved, h = layer(moved, h, first, self.others)
        velocity = moved - x
        return velocity - velocity.mean(1, keepdim=True)

    def embed(self, t: Tensor) -> Tensor:
        """Features (B, n, width) at the input: class and time of each atom."""
        n = len(self.kinds)
        time = t.to(self.kinds)[:, None, None].expand(-1, n, 1)
        return self.embedding(torch.cat([self.kinds.expand(len(t), -1, -1), time], -1))
