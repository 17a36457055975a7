"""Generalized Born kernels on (n, B) arrays: screening integrals, Born radii, energies, chain rule."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.born import ACE_PROBE, Born

if TYPE_CHECKING:
    from gibbsian.potentials.torch.pairs import PairViews

LOG2_E = math.log2(math.e)


class BornAtoms:
    """Per-atom part: Born radius from the screening sum, self energy, surface term."""

    def __init__(self, born: Born, dtype: torch.dtype, device: torch.device):
        def column(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values[:, None], dtype=dtype, device=device).contiguous()

        radius = born.offset_radii + born.offset
        self.offset_radius = column(born.offset_radii)
        self.inverse_offset_radius = column(1 / born.offset_radii)
        self.inverse_radius = column(1 / radius)
        self.chain = column(born.offset_radii / radius)
        self.tanh = None if born.tanh is None else [column(values) for values in born.tanh.T]
        self.kappa = born.kappa
        charge2 = -0.5 * born.coulomb * born.charges**2
        self.solute = column(charge2 / born.solute_dielectric)
        self.solvent = column(charge2 / born.solvent_dielectric)
        self.surface = column(born.surface * (radius + ACE_PROBE) ** 2 * radius**6) if born.surface else None

    def radii(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Born radii (n_atoms, B) and their derivative by the sums."""
        if self.tanh is None:
            radii = (self.inverse_offset_radius - sums).reciprocal_()
            return radii, radii * radii
        alpha, beta, gamma = self.tanh
        psi = sums * self.offset_radius
        t = (((gamma * psi).sub_(beta)).mul_(psi).add_(alpha)).mul_(psi)
        t = t.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)  # tanh
        slope = ((3 * gamma * psi).sub_(2 * beta)).mul_(psi).add_(alpha).mul_(self.chain)
        slope.mul_(1 - t * t)
        radii = (self.inverse_offset_radius - t.mul_(self.inverse_radius)).reciprocal_()
        return radii, slope.mul_(radii).mul_(radii)

    def close(self, radii: Tensor, by_log: Tensor, energy: Tensor) -> Tensor:
        """Add self and surface energies; from the pairs' dE/dln(radius) make dE/d(radius) of everything."""
        inverse = radii.reciprocal()
        if self.kappa:
            salt = torch.exp2(-self.kappa * LOG2_E * radii).mul_(self.solvent)
            value = (self.solute - salt).mul_(inverse)
            by_log = by_log.add(salt, alpha=self.kappa)
        else:
            value = (self.solute - self.solvent) * inverse
        by_log = by_log - value
        if self.surface is not None:
            area = (inverse * inverse).pow_(3).mul_(self.surface)
            by_log.sub_(area, alpha=6.0)
            value.add_(area)
        energy.add_(value.sum(0, dtype=torch.float64))
        return by_log.mul_(inverse)


class BornPairs:
    """Generalized Born terms of a run of pairs."""

    def __init__(
        self, born: Born, i: np.ndarray, j: np.ndarray, repeated: np.ndarray, dtype: torch.dtype, device: torch.device
    ):
        def column(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values[:, None], dtype=dtype, device=device).contiguous()

        charge = np.where(repeated, 0.0, -born.coulomb * born.charges[i] * born.charges[j])
        self.solute = column(charge / born.solute_dielectric)
        self.solvent = column(charge / born.solvent_dielectric)
        self.difference = column(charge * (1 / born.solute_dielectric - 1 / born.solvent_dielectric))
        self.kappa = born.kappa
        self.cutoff = born.cutoff
        self.sides = tuple(Screening(born, p, q, repeated, dtype, device) for p, q in ((i, j), (j, i)))

    def sums(self, views: "PairViews", sums: Tensor) -> None:
        """Add the screening integrals to the atoms' `sums`; write their derivatives by r to `views.slopes`."""
        r = torch.mul(views.r2, views.inverse, out=views.r)
        nearest = float(r.amin())
        outside = None if self.cutoff is None else r > self.cutoff
        for onto, side, slope in zip((views.onto_i, views.onto_j), self.sides, views.slopes, strict=True):
            integral = side.integral(r, views.inverse, nearest, slope, views.scratch)
            if outside is not None:
                integral.masked_fill_(outside, 0.0)
                slope.masked_fill_(outside, 0.0)
            sums.add_(onto(integral))

    def energy(self, views: "PairViews", by_log: Tensor, energy: Tensor) -> None:
        """Add energies, force over distance at fixed radii, and dE/dln(radius) of the atoms."""
        r2, push = views.r2, views.push
        b2, overlap, inverse, value, slope = views.scratch
        torch.mul(views.radii_i, views.radii_j, out=views.scratch_rows[0])
        torch.div(r2, b2, out=overlap).mul_(-0.25 * LOG2_E).exp2_()
        torch.addcmul(r2, b2, overlap, out=inverse).rsqrt_()
        self._screened(inverse, value, slope)
        if self.cutoff is not None:
            outside = r2 > self.cutoff**2
            value.masked_fill_(outside, 0.0)
            slope.masked_fill_(outside, 0.0)
        energy.add_(value.sum(0, dtype=torch.float64))
        push.add_(slope)
        push.sub_(overlap.mul_(slope), alpha=0.25)
        # d(f^2)/dln(b2) = overlap (b2 + r^2/4)
        b2.add_(r2, alpha=0.25).mul_(overlap).mul_(-0.5)
        by_log.add_(views.onto_i(b2)).add_(views.onto_j(b2))

    def _screened(self, inverse: Tensor, value: Tensor, slope: Tensor) -> None:
        """Energy as a function of the effective distance f, given 1/f, and -(dE/df)/f."""
        if not self.kappa:
            torch.mul(inverse, self.difference, out=value)
            torch.mul(value, inverse, out=slope).mul_(inverse)
            if self.cutoff is not None:
                value.sub_(self.difference / self.cutoff)
            return
        salt = torch.exp2(-self.kappa * LOG2_E / inverse).mul_(self.solvent)
        strength = self.solute - salt
        shifted = inverse - (1 / self.cutoff if self.cutoff else 0.0)
        torch.mul(strength, inverse, out=slope).mul_(inverse)
        slope.addcmul_(salt, shifted, value=-self.kappa).mul_(inverse)
        torch.mul(strength, shifted, out=value)

    def chain(self, views: "PairViews") -> None:
        """Add the force through the Born radii, over distance; `views.radii` holds dE/d(sum) of the atoms."""
        total = views.scratch_rows[0]
        torch.mul(views.radii_i, views.slope_rows[0], out=total)
        total.addcmul_(views.radii_j, views.slope_rows[1])
        views.push.addcmul_(views.scratch[0], views.inverse, value=-1.0)


class Screening:
    """How much atom `q` of each pair takes solvent away from atom `p`: the pairwise descreening integral."""

    def __init__(
        self, born: Born, p: np.ndarray, q: np.ndarray, repeated: np.ndarray, dtype: torch.dtype, device: torch.device
    ):
        def column(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values[:, None], dtype=dtype, device=device).contiguous()

        # A sphere of no size screens nothing.
        radius, scaled = born.offset_radii[p], np.where(repeated, 0.0, born.scaled_radii[q])
        self.radius, self.scaled, self.scaled2 = column(radius), column(scaled), column(scaled**2)
        self.inverse_radius = column(1 / radius)
        self.negative = bool((scaled < 0).any())
        self.engulfed = column(scaled - radius)
        self.engulfed_max = float((scaled - radius).max(initial=0.0))
        self.engulfed_term = born.engulfed_term
        self.reach = None
        if born.neck is not None:
            self.reach = column(born.offset_radii[p] + born.offset_radii[q] + 2 * born.offset + born.neck.cut)
            self.neck_distance = column(born.neck.distance[p, q])
            self.neck_height = column(np.where(repeated, 0.0, born.neck.scale * born.neck.height[p, q]))

    def integral(self, r: Tensor, inverse: Tensor, nearest: float, slope: Tensor, scratch: list[Tensor]) -> Tensor:
        """Integral (n, B), in scratch memory; its derivative by r goes to `slope`.

        With L = max(or, |r - s|), U = r + s: (1/L - 1/U + (r - s^2/r)(1/U^2 - 1/L^2)/4 + ln(L/U)/(2 r))/2. Its
        derivatives by L and U cancel those of the limits, but for an engulfed atom (r + or < s), where +1/L^2 is left
        unless the term 1/or - 1/L is added.
        """
        upper, lower, log, product, ratio = scratch
        torch.add(r, self.scaled, out=upper)
        torch.sub(r, self.scaled, out=lower).abs_()
        torch.maximum(lower, self.radius, out=lower)
        outside = upper < self.radius if self.negative else None
        # Out of reach U < or; raised to or it equals L, and the integral vanishes without a mask.
        torch.maximum(upper, self.radius, out=upper)
        lower.reciprocal_()
        upper.reciprocal_()
        torch.add(lower, upper, out=product)
        difference = torch.sub(lower, upper, out=upper)
        # ln(L/U)/r, by ln(L/U) = -2 artanh((1/L - 1/U)/(1/L + 1/U)): more exact for L near U than the quotient.
        torch.div(difference, product, out=log).atanh_().mul_(inverse).mul_(-2.0)
        product.mul_(difference)
        torch.mul(inverse, self.scaled2, out=ratio)
        torch.mul(ratio, inverse, out=slope).add_(1.0).mul_(product).mul_(-0.125)
        slope.addcmul_(log, inverse, value=-0.25)
        product.mul_(torch.sub(r, ratio, out=ratio))
        integral = difference.mul_(0.5).add_(product, alpha=-0.125).add_(log, alpha=0.25)
        if not nearest > self.engulfed_max:
            engulfed = r < self.engulfed
            if self.engulfed_term:
                integral.add_((self.inverse_radius - lower).mul_(engulfed))
            else:
                slope.add_(lower.square().mul_(engulfed))
        if outside is not None:
            integral.masked_fill_(outside, 0.0)
            slope.masked_fill_(outside, 0.0)
        if self.reach is not None:
            self._neck(r, integral, slope)
        return integral

    def _neck(self, r: Tensor, integral: Tensor, slope: Tensor) -> None:
        """Add the neck correction h/(1 + 100 d^2 + 3e5 d^6), d = r - d0, within reach."""
        assert self.reach is not None
        d = r - self.neck_distance
        d2 = d * d
        d4 = d2 * d2
        value = (d4 * d2).mul_(3e5).add_(d2, alpha=100.0).add_(1.0).reciprocal_()
        by_d = d4.mul_(1.8e6).add_(200.0).mul_(d)
        by_d.mul_(value).mul_(value).mul_(self.neck_height)
        value.mul_(self.neck_height)
        beyond = r > self.reach
        integral.add_(value.masked_fill_(beyond, 0.0))
        slope.sub_(by_d.masked_fill_(beyond, 0.0))
