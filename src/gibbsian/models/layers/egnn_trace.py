"""Velocity of an `EquivariantField` together with the exact trace of its Jacobian, in closed form.

Automatic differentiation takes one pass through all pairs for each of the 3n directions. Here the Jacobians of the
layers are multiplied instead. With the names of `gibbsian.models.layers.egnn`, tangents dx (3n, K) and dh (n width, K)
obey

    dp_ij = A dh_i + B dh_j + 2 w (x_i - x_j).(dx_i - dx_j) + 2 w0 (x_i - x_j)_0.(dx_i - dx_j)_0
    dg_ij = M_ij dp_ij,   M_ij = (e 1 + e (1 - e) m a^T) diag(silu'(q)) C diag(silu'(p))
    df_ij = s_ij . dp_ij,   s_ij = M_ij^T D^T (d * silu'(D g + d0)) range (1 - tanh^2)

so that one matrix product of (n width, n width) with (n width, 3n) per layer does nearly all the work. The first layer
has no dh, the last only the trace of dx: both cost next to nothing. Velocities do not change when all atoms move
together, so the trace over all 3n coordinates is that over the 3n - 3 without the centre.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from gibbsian.models.layers.egnn import (
    TINY,
    EquivariantField,
    EquivariantLayer,
    Messages,
    Pairs,
    directions,
    pairs_of,
)


class Slopes(NamedTuple):
    """Derivatives of the messages, (B, n, n, width) each.

    ``M = diag(outer) C diag(inner) + gate gated^T`` with outer = e silu'(q), inner = silu'(p), gate = e (1 - e) m.
    """

    inner: Tensor
    outer: Tensor
    gate: Tensor
    gated: Tensor


class Moves(NamedTuple):
    """Derivatives of where a layer moves the atoms.

    Attributes
    ----------
    of_atoms, of_start
        (B, 3n, 3n), with respect to the atoms before the layer and at the input.
    of_receiver, of_sender
        (B, n, 3, width) and (B, 3n, n width), with respect to ``A h_i`` and ``B h_j``.
    """

    of_atoms: Tensor
    of_start: Tensor
    of_receiver: Tensor
    of_sender: Tensor


def velocity_and_trace(field: EquivariantField, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean-free velocity (B, n, 3) and the trace of its Jacobian (B,) at `x` (B, n, 3) and times `t` (B,)."""
    batch, n, _ = x.shape
    start, h, moved = pairs_of(x), field.embed(t), x
    dx = torch.eye(3 * n, dtype=x.dtype, device=x.device).expand(batch, -1, -1)
    dh: Tensor | None = None
    trace = x.new_zeros(batch)
    for layer in field.layers:
        assert isinstance(layer, EquivariantLayer)
        pairs = pairs_of(moved)
        messages = layer.messages(h, pairs.square, start.square, field.others)
        slopes = _slopes(layer, messages)
        step, moves = _moves(layer, pairs, start, messages, slopes)
        moved = moved + step
        if layer.last:
            trace = _trace(layer, moves, dx, dh) - 3.0 * n
            continue
        received = messages.g.sum(2)
        dx_next = _moved(layer, moves, dx, dh)
        dh = _features(layer, torch.cat([h, received], -1), _received(layer, pairs, start, slopes, dx, dh), dh)
        h, dx = layer.features(h, received), dx_next
    velocity = moved - x
    return velocity - velocity.mean(1, keepdim=True), trace


def _slope(x: Tensor) -> Tensor:
    """Return the derivative of silu."""
    s = torch.sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


def _slopes(layer: EquivariantLayer, messages: Messages) -> Slopes:
    p, q, m, e, _ = messages
    inner, outer = _slope(p), _slope(q)
    gated = ((outer * layer.attention.weight[0]) @ layer.message.weight) * inner
    return Slopes(inner, e * outer, e * (1.0 - e) * m, gated)


def _moves(
    layer: EquivariantLayer, pairs: Pairs, start: Pairs, messages: Messages, slopes: Slopes
) -> tuple[Tensor, Moves]:
    """How far a layer moves the atoms (B, n, 3), and the derivatives of that."""
    batch, n, _, _ = pairs.vector.shape
    k = layer.move(messages.g)
    bounded = torch.tanh(layer.factor(silu(k)))
    factor = layer.reach * bounded
    by_message = (layer.reach * (1.0 - bounded.square()) * _slope(k) * layer.factor.weight[0]) @ layer.move.weight
    by_pair = slopes.inner * ((slopes.outer * by_message) @ layer.message.weight)
    by_pair = by_pair + slopes.gated * (slopes.gate * by_message).sum(-1, keepdim=True)
    _, _, now, then = layer.split()
    toward = directions(pairs)
    distance = torch.sqrt(pairs.square + TINY)[..., None, None]
    eye = torch.eye(3, dtype=toward.dtype, device=toward.device)
    turn = factor[..., None] * (eye / (distance + 1.0) - toward[..., :, None] * toward[..., None, :] / distance)
    along = toward[..., :, None] * (2.0 * (by_pair @ now))[..., None, None] * pairs.vector[..., None, :]
    at_start = toward[..., :, None] * (2.0 * (by_pair @ then))[..., None, None] * start.vector[..., None, :]
    of_pair = toward[..., :, None] * by_pair[..., None, :]
    moves = Moves(
        _of_differences((turn + along).transpose(2, 3)),
        _of_differences(at_start.transpose(2, 3)),
        of_pair.sum(2),
        of_pair.transpose(2, 3).reshape(batch, 3 * n, n * layer.width),
    )
    return (factor * toward).sum(2), moves


def _of_differences(blocks: Tensor) -> Tensor:
    """Turn a map of all x_i - x_j, blocks (B, n, r, n, 3) of i and j, into one of the x_j: (B, n r, 3n)."""
    batch, n, rows, _, _ = blocks.shape
    own = torch.diag_embed(blocks.sum(3).movedim(1, -1)).permute(0, 3, 1, 4, 2)
    return (own - blocks).reshape(batch, n * rows, 3 * n)


def _received(
    layer: EquivariantLayer, pairs: Pairs, start: Pairs, slopes: Slopes, dx: Tensor, dh: Tensor | None
) -> Tensor:
    """Tangents of the sums of messages, (B, n, width, 3n)."""
    batch, n, _, width = slopes.inner.shape
    receiver, sender, now, then = layer.split()

    def of_square(weight: Tensor, vector: Tensor) -> Tensor:
        slope = slopes.outer * ((slopes.inner * weight) @ layer.message.weight.T)
        slope = slope + slopes.gate * (slopes.gated @ weight)[..., None]
        return _of_differences((2.0 * slope[..., :, None] * vector[..., None, :]).transpose(2, 3))

    total = of_square(now, pairs.vector) @ dx + of_square(then, start.vector)
    total = total.view(batch, n, width, -1)
    if dh is None:
        return total
    own = layer.message.weight * (slopes.outer.transpose(2, 3) @ slopes.inner)
    own = own + slopes.gate.transpose(2, 3) @ slopes.gated
    outer, inner = slopes.outer.transpose(2, 3).contiguous()[..., None], slopes.inner[:, :, None]
    all_pairs = (outer * layer.message.weight[:, None] * inner).view(batch, n * width, n * width)
    sent = sender @ dh
    through_gate = torch.einsum("bijh,bjhk->bijk", slopes.gated, sent)
    total = total + own @ (receiver @ dh) + slopes.gate.transpose(2, 3) @ through_gate
    return total + (all_pairs @ sent.view(batch, n * width, -1)).view_as(total)


def _features(layer: EquivariantLayer, inputs: Tensor, received: Tensor, dh: Tensor | None) -> Tensor:
    """Tangents of the new features, (B, n, width, 3n)."""
    slope = _slope(layer.update(inputs))[..., None]
    of_own, of_received = layer.update.weight.split(layer.width, 1)
    if dh is None:
        return layer.change.weight @ (slope * (of_received @ received))
    return dh + layer.change.weight @ (slope * (of_own @ dh + of_received @ received))


def _moved(layer: EquivariantLayer, moves: Moves, dx: Tensor, dh: Tensor | None) -> Tensor:
    """Tangents of the moved atoms, (B, 3n, 3n)."""
    dx = dx + moves.of_atoms @ dx + moves.of_start
    if dh is None:
        return dx
    receiver, sender, _, _ = layer.split()
    own = (moves.of_receiver @ (receiver @ dh)).view_as(dx)
    return dx + own + moves.of_sender @ (sender @ dh).view(len(dx), -1, dx.shape[-1])


def _trace(layer: EquivariantLayer, moves: Moves, dx: Tensor, dh: Tensor | None) -> Tensor:
    """Trace of `_moved`, (B,)."""
    diagonal = dx.diagonal(dim1=1, dim2=2) + moves.of_start.diagonal(dim1=1, dim2=2)
    trace = diagonal.sum(1) + (moves.of_atoms * dx.transpose(1, 2)).sum((1, 2))
    if dh is None:
        return trace
    batch, n, width, _ = dh.shape
    receiver, sender, _, _ = layer.split()
    own = dh.view(batch, n, width, n, 3).diagonal(dim1=1, dim2=3)  # (B, width, 3, n)
    trace = trace + ((moves.of_receiver @ receiver) * own.permute(0, 3, 2, 1)).sum((1, 2, 3))
    sent = (sender @ dh).view(batch, n * width, 3 * n)
    return trace + (moves.of_sender * sent.transpose(1, 2)).sum((1, 2))
