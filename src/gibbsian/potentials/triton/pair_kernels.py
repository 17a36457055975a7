"""Coulomb, Lennard-Jones and generalized Born over all ordered pairs.

A program takes one atom i in a block of conformations and goes through all atoms j, so that each sum belongs to one
program: there are no atomics, and results do not depend on the order of execution. Arrays are (rows, atoms,
conformations) with conformations innermost: a warp reads neighbouring conformations of one atom, and the coefficients
of a pair are scalars. Tiles of several atoms would share coordinates, but then coefficients pass through shared memory.

Born radii couple all pairs, so there are three kernels: Born sums and radii; energies, with forces at fixed radii;
forces through the radii. A pair counts half its energy from each side.
"""
# pyright: reportMissingImports=false

import triton
import triton.language as tl

from gibbsian.potentials.triton.elementary import add_exactly, load3, separation


@triton.jit
def screening(
    r,
    inverse,
    radius,
    inverse_radius,
    scaled,
    ENGULFED_TERM: tl.constexpr,
    NEGATIVE: tl.constexpr,
    DOUBLE: tl.constexpr,
):
    """Descreening integral of an atom by another one at distance `r`, and its derivative by `r`.

    With L = max(or, |r - s|), U = r + s: (1/L - 1/U + (r - s^2/r)(1/U^2 - 1/L^2)/4 + ln(L/U)/(2 r))/2. Its derivatives
    by L and U cancel those of the limits, but for an engulfed atom (r + or < s), where +1/L^2 is left unless the term
    1/or - 1/L is added, as OpenMM's built-in force does.
    """
    # Out of reach U < or; raised to or it equals L, and the integral vanishes.
    upper, lower = tl.maximum(r + scaled, radius), tl.maximum(tl.abs(r - scaled), radius)
    by_lower, by_upper = 1.0 / lower, 1.0 / upper
    difference = by_lower - by_upper
    product = (by_lower + by_upper) * difference
    log = tl.log(upper * by_lower) * inverse
    ratio = scaled * scaled * inverse
    value = 0.5 * difference - 0.125 * (r - ratio) * product - 0.25 * log
    slope = 0.25 * log * inverse - 0.125 * (1.0 + ratio * inverse) * product
    engulfed = r < scaled - radius
    if ENGULFED_TERM:
        value = tl.where(engulfed, value + inverse_radius - by_lower, value)
    else:
        slope = tl.where(engulfed, slope + by_lower * by_lower, slope)
    if NEGATIVE:
        outside = r + scaled < tl.where(scaled < 0, radius, 0.0)
        value, slope = tl.where(outside, 0.0, value), tl.where(outside, 0.0, slope)
    if not DOUBLE:
        # Terms cancel between distant atoms. Without overlap the integral is t^3/r P(t^2), t = s/r; the polynomials
        # interpolate P and Q of the slope -t^3/r^2 Q(t^2) at Chebyshev points of [0, 0.3]. The margin covers rounding.
        t = scaled * inverse
        z = t * t
        distant = (r >= (radius + tl.abs(scaled)) * 1.00001) & (z <= 0.3)
        p = (1.55327921785499189 * z - 0.0902802919757984278) * z + 0.579140044572054286
        p = ((p * z + 0.430620016633474549) * z + 0.429284843984208012) * z + 0.399986409272478533
        p = p * z + 0.333333375066010428
        q = (39.2286175328318641 * z - 11.7656708656188333) * z + 11.9640421451294264
        q = ((q * z + 4.62557539740282133) * z + 4.51047855289758871) * z + 3.42603134257327946
        q = (q * z + 2.40003676561679795) * z + 1.3333332469430638
        cube = t * z * inverse
        value, slope = tl.where(distant, cube * p, value), tl.where(distant, -cube * inverse * q, slope)
    return value, slope


@triton.jit
def neck(r, height, distance):
    """Neck correction h/(1 + 100 d^2 + 3e5 d^6), d = r - d0, and its derivative."""
    d = r - distance
    d2 = d * d
    d4 = d2 * d2
    value = 1.0 / (1.0 + 100.0 * d2 + 3e5 * d4 * d2)
    return height * value, -height * value * value * d * (200.0 + 1.8e6 * d4)


@triton.jit
def born_radii(
    x_ptr,
    atoms_ptr,
    neck_ptr,
    born_ptr,
    width,
    N: tl.constexpr,
    SHORTEST2: tl.constexpr,
    RESCALED: tl.constexpr,
    ENGULFED_TERM: tl.constexpr,
    NEGATIVE: tl.constexpr,
    NECK_REACH: tl.constexpr,
    CUTOFF: tl.constexpr,
    DOUBLE: tl.constexpr,
    BLOCK_B: tl.constexpr,
):
    """Write Born radii and their derivatives by the Born sums, rows 0 and 1 of `born_ptr`."""
    i, b = tl.program_id(0), tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    xi, yi, zi = load3(x_ptr, i, N, width, b)
    radius, inverse_radius = tl.load(atoms_ptr + i), tl.load(atoms_ptr + N + i)
    sums = tl.zeros([BLOCK_B], x_ptr.dtype.element_ty)
    lost = sums
    for j in range(N):
        xj, yj, zj = load3(x_ptr, j, N, width, b)
        _, _, _, r2, inverse = separation(xi, yi, zi, xj, yj, zj, SHORTEST2)
        r, scaled = r2 * inverse, tl.load(atoms_ptr + 3 * N + j)
        value, _ = screening(r, inverse, radius, inverse_radius, scaled, ENGULFED_TERM, NEGATIVE, DOUBLE)
        if NECK_REACH > 0.0:
            at = neck_ptr + j * N + i
            extra, _ = neck(r, tl.load(at), tl.load(at + N * N))
            value += tl.where(r <= radius + tl.load(atoms_ptr + j) + NECK_REACH, extra, 0.0)
        if CUTOFF > 0.0:
            value = tl.where(r2 <= CUTOFF * CUTOFF, value, 0.0)
        # Born radii hang on the last digits.
        sums, lost = add_exactly(sums, lost, tl.where(i != j, value, 0.0))
    if RESCALED:
        by_radius = tl.load(atoms_ptr + 2 * N + i)
        alpha, beta = tl.load(atoms_ptr + 4 * N + i), tl.load(atoms_ptr + 5 * N + i)
        gamma = tl.load(atoms_ptr + 6 * N + i)
        psi = sums * radius
        tanh = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * ((gamma * psi - beta) * psi + alpha) * psi))
        radii = 1.0 / (inverse_radius - tanh * by_radius)
        slope = ((3.0 * gamma * psi - 2.0 * beta) * psi + alpha) * (1.0 - tanh * tanh) * (radius * by_radius)
    else:
        radii = 1.0 / (inverse_radius - sums)
        slope = tl.full([BLOCK_B], 1.0, x_ptr.dtype.element_ty)
    at = born_ptr + i * width + b
    tl.store(at, radii)
    tl.store(at + N * width, slope * radii * radii)


@triton.jit
def direct(pairs_ptr, i, j, r2, inverse, N: tl.constexpr, CUT: tl.constexpr):
    """Coulomb and Lennard-Jones energy, and force over distance."""
    at = pairs_ptr + j * N + i
    b = tl.load(at + 2 * N * N)
    inverse2 = inverse * inverse
    inverse6 = inverse2 * inverse2 * inverse2
    coulomb, lj = tl.load(at) * inverse, (tl.load(at + N * N) * inverse6 - b) * inverse6
    value, push = coulomb + lj, (coulomb + 12.0 * lj + (6.0 * b) * inverse6) * inverse2
    if CUT:
        within = r2 <= tl.load(at + 3 * N * N)
        field = tl.load(at + 4 * N * N)
        value = tl.where(within, value + field * r2 - tl.load(at + 5 * N * N), 0.0)
        push = tl.where(within, push - 2.0 * field, 0.0)
    return value, push


@triton.jit
def polarise(
    charges,
    r2,
    b2,
    KAPPA: tl.constexpr,
    SOLUTE: tl.constexpr,
    SOLVENT: tl.constexpr,
    CUTOFF: tl.constexpr,
):
    """Polarisation energy of a pair, its force over distance at fixed radii, and dE/dln(B)."""
    overlap = tl.exp(-0.25 * r2 / b2)
    f2 = r2 + b2 * overlap
    inverse = tl.rsqrt(f2)
    if KAPPA > 0.0:
        salt = charges * SOLVENT * tl.exp(-KAPPA * f2 * inverse)
        strength = charges * SOLUTE - salt
        shifted = inverse
        if CUTOFF > 0.0:
            shifted -= 1.0 / CUTOFF
        slope = (strength * inverse * inverse - KAPPA * salt * shifted) * inverse
        value = strength * shifted
    else:
        strength = charges * (SOLUTE - SOLVENT)
        value = strength * inverse
        slope = value * inverse * inverse
        if CUTOFF > 0.0:
            value -= strength / CUTOFF
    if CUTOFF > 0.0:
        within = r2 <= CUTOFF * CUTOFF
        value, slope = tl.where(within, value, 0.0), tl.where(within, slope, 0.0)
    return value, slope - 0.25 * overlap * slope, -0.5 * slope * overlap * (b2 + 0.25 * r2)


@triton.jit
def pair_energies(
    x_ptr,
    pairs_ptr,
    atoms_ptr,
    born_ptr,
    force_ptr,
    energy_ptr,
    width,
    N: tl.constexpr,
    SHORTEST2: tl.constexpr,
    CUT: tl.constexpr,
    IN_SOLVENT: tl.constexpr,
    KAPPA: tl.constexpr,
    SOLUTE: tl.constexpr,
    SOLVENT: tl.constexpr,
    CUTOFF: tl.constexpr,
    BLOCK_B: tl.constexpr,
):
    """Add forces at fixed radii; write energies, a row for each atom, and dE/d(Born sum) to row 1."""
    i, b = tl.program_id(0), tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    xi, yi, zi = load3(x_ptr, i, N, width, b)
    energy = tl.zeros([BLOCK_B], x_ptr.dtype.element_ty)
    lost, fx, fy, fz, by_log, charge_i, radius_i = energy, energy, energy, energy, energy, energy, energy
    if IN_SOLVENT:
        charge_i, radius_i = tl.load(atoms_ptr + 7 * N + i), tl.load(born_ptr + i * width + b)
    for j in range(N):
        xj, yj, zj = load3(x_ptr, j, N, width, b)
        dx, dy, dz, r2, inverse = separation(xi, yi, zi, xj, yj, zj, SHORTEST2)
        value, push = direct(pairs_ptr, i, j, r2, inverse, N, CUT)
        if IN_SOLVENT:
            charges = tl.where(i != j, -charge_i * tl.load(atoms_ptr + 7 * N + j), 0.0)
            b2 = radius_i * tl.load(born_ptr + j * width + b)
            more, more_push, change = polarise(charges, r2, b2, KAPPA, SOLUTE, SOLVENT, CUTOFF)
            value, push, by_log = value + more, push + more_push, by_log + change
        energy, lost = add_exactly(energy, lost, value)
        fx, fy, fz = fx + push * dx, fy + push * dy, fz + push * dz
    total = 0.5 * (energy.to(tl.float64) - lost.to(tl.float64))
    if IN_SOLVENT:
        inverse, salt = 1.0 / radius_i, -0.5 * charge_i * charge_i * SOLVENT
        if KAPPA > 0.0:
            salt = salt * tl.exp(-KAPPA * radius_i)
            by_log += KAPPA * salt
        own = (-0.5 * charge_i * charge_i * SOLUTE - salt) * inverse
        inverse2 = inverse * inverse
        area = tl.load(atoms_ptr + 8 * N + i) * inverse2 * inverse2 * inverse2
        total += (own + area).to(tl.float64)
        at = born_ptr + (N + i) * width + b
        by_sum = (by_log - own - 6.0 * area) * inverse * tl.load(at)
        tl.store(at, by_sum)
    tl.store(energy_ptr + i * width + b, total)
    add_force(force_ptr, fx, fy, fz, i, b, width, N)


@triton.jit
def add_force(force_ptr, fx, fy, fz, i, b, width, N: tl.constexpr):
    """Add to what is there."""
    at = force_ptr + i * width + b
    x, y, z = load3(force_ptr, i, N, width, b)
    tl.store(at, x + fx)
    tl.store(at + N * width, y + fy)
    tl.store(at + 2 * N * width, z + fz)


@triton.jit
def chain_forces(
    x_ptr,
    atoms_ptr,
    neck_ptr,
    born_ptr,
    force_ptr,
    width,
    N: tl.constexpr,
    SHORTEST2: tl.constexpr,
    ENGULFED_TERM: tl.constexpr,
    NEGATIVE: tl.constexpr,
    NECK_REACH: tl.constexpr,
    CUTOFF: tl.constexpr,
    DOUBLE: tl.constexpr,
    BLOCK_B: tl.constexpr,
):
    """Add forces through the Born radii, given dE/d(Born sum)."""
    i, b = tl.program_id(0), tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    xi, yi, zi = load3(x_ptr, i, N, width, b)
    radius_i, inverse_i = tl.load(atoms_ptr + i), tl.load(atoms_ptr + N + i)
    scaled_i, by_i = tl.load(atoms_ptr + 3 * N + i), tl.load(born_ptr + (N + i) * width + b)
    fx = tl.zeros([BLOCK_B], x_ptr.dtype.element_ty)
    fy, fz = fx, fx
    for j in range(N):
        xj, yj, zj = load3(x_ptr, j, N, width, b)
        dx, dy, dz, r2, inverse = separation(xi, yi, zi, xj, yj, zj, SHORTEST2)
        r, by_j = r2 * inverse, tl.load(born_ptr + (N + j) * width + b)
        radius_j, inverse_j = tl.load(atoms_ptr + j), tl.load(atoms_ptr + N + j)
        scaled_j = tl.load(atoms_ptr + 3 * N + j)
        _, onto_i = screening(r, inverse, radius_i, inverse_i, scaled_j, ENGULFED_TERM, NEGATIVE, DOUBLE)
        _, onto_j = screening(r, inverse, radius_j, inverse_j, scaled_i, ENGULFED_TERM, NEGATIVE, DOUBLE)
        if NECK_REACH > 0.0:
            ij, ji = neck_ptr + j * N + i, neck_ptr + i * N + j
            _, extra_i = neck(r, tl.load(ij), tl.load(ij + N * N))
            _, extra_j = neck(r, tl.load(ji), tl.load(ji + N * N))
            within = r <= radius_i + radius_j + NECK_REACH
            onto_i, onto_j = onto_i + tl.where(within, extra_i, 0.0), onto_j + tl.where(within, extra_j, 0.0)
        push = -(by_i * onto_i + by_j * onto_j) * inverse
        if CUTOFF > 0.0:
            push = tl.where(r2 <= CUTOFF * CUTOFF, push, 0.0)
        push = tl.where(i != j, push, 0.0)
        fx, fy, fz = fx + push * dx, fy + push * dy, fz + push * dz
    add_force(force_ptr, fx, fy, fz, i, b, width, N)
