"""Bonds, angles, torsions, impropers and correction maps.

A program takes one atom in a block of conformations and evaluates every term that the atom is in, for the force on
this atom alone. So a torsion is evaluated four times, but nothing is scattered; all pairs cost far more.
"""
# pyright: reportMissingImports=false

import triton
import triton.language as tl

from gibbsian.potentials.triton.elementary import angle, cross, dot, load3


@triton.jit
def dihedral(x_ptr, at, N: tl.constexpr, width, b, TINY: tl.constexpr):
    """Cosine and sine of a torsion whose four atoms are at `at`, and its derivatives by the three bonds.

    Formulas of Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996); clamped, so that collinear atoms give finite
    forces. The derivatives are those by the first atom, by the last, and what the middle bond gets.
    """
    x0, y0, z0 = load3(x_ptr, tl.load(at), N, width, b)
    x1, y1, z1 = load3(x_ptr, tl.load(at + 1), N, width, b)
    x2, y2, z2 = load3(x_ptr, tl.load(at + 2), N, width, b)
    x3, y3, z3 = load3(x_ptr, tl.load(at + 3), N, width, b)
    fx, fy, fz = x0 - x1, y0 - y1, z0 - z1
    gx, gy, gz = x1 - x2, y1 - y2, z1 - z2
    hx, hy, hz = x3 - x2, y3 - y2, z3 - z2
    ax, ay, az = cross(fx, fy, fz, gx, gy, gz)
    bx, by, bz = cross(hx, hy, hz, gx, gy, gz)
    root_a = tl.rsqrt(tl.maximum(dot(ax, ay, az, ax, ay, az), TINY * TINY))
    root_b = tl.rsqrt(tl.maximum(dot(bx, by, bz, bx, by, bz), TINY * TINY))
    length = tl.sqrt(tl.maximum(dot(gx, gy, gz, gx, gy, gz), TINY * TINY))
    cosine = dot(ax, ay, az, bx, by, bz) * root_a * root_b
    sine = -dot(fx, fy, fz, bx, by, bz) * root_a * root_b * length
    by_a, by_b, inverse = root_a * root_a, root_b * root_b, 1.0 / length
    fg, hg = dot(fx, fy, fz, gx, gy, gz) * inverse * by_a, dot(hx, hy, hz, gx, gy, gz) * inverse * by_b
    mx, my, mz = fg * ax - hg * bx, fg * ay - hg * by, fg * az - hg * bz
    by_a, by_b = by_a * length, -by_b * length
    return cosine, sine, by_a * ax, by_a * ay, by_a * az, by_b * bx, by_b * by, by_b * bz, mx, my, mz


@triton.jit
def share(place, slope, first, last, middle):
    """One component of the force on the atom at a place in a torsion; nothing at place 4."""
    inner = tl.where(place == 1, -(first + middle), tl.where(place == 2, middle - last, 0.0))
    return slope * tl.where(place == 0, first, tl.where(place == 3, last, inner))


@triton.jit
def bond(x_ptr, index, values, N: tl.constexpr, width, b, TINY: tl.constexpr, DOUBLE: tl.constexpr):
    """k/2 (r - r0)^2; its energy counts at the first atom."""
    place = tl.load(index)
    x0, y0, z0 = load3(x_ptr, tl.load(index + 1), N, width, b)
    x1, y1, z1 = load3(x_ptr, tl.load(index + 2), N, width, b)
    dx, dy, dz = x0 - x1, y0 - y1, z0 - z1
    r2 = tl.maximum(dot(dx, dy, dz, dx, dy, dz), TINY * TINY)
    # Bonds are so stiff that the last bit of the approximate root would show.
    r = tl.sqrt(r2) if DOUBLE else tl.sqrt_rn(r2)
    stretch, k = r - tl.load(values), tl.load(values + 1)
    push = tl.where(place == 0, -k, k) * stretch / r
    return tl.where(place == 0, 0.5 * k * stretch * stretch, 0.0), push * dx, push * dy, push * dz


@triton.jit
def bend(x_ptr, index, values, N: tl.constexpr, width, b, TINY: tl.constexpr, DOUBLE: tl.constexpr):
    """k/2 (theta - theta0)^2."""
    place = tl.load(index)
    x0, y0, z0 = load3(x_ptr, tl.load(index + 1), N, width, b)
    x1, y1, z1 = load3(x_ptr, tl.load(index + 2), N, width, b)
    x2, y2, z2 = load3(x_ptr, tl.load(index + 3), N, width, b)
    ux, uy, uz = x0 - x1, y0 - y1, z0 - z1
    vx, vy, vz = x2 - x1, y2 - y1, z2 - z1
    nx, ny, nz = cross(ux, uy, uz, vx, vy, vz)
    sine = tl.sqrt(dot(nx, ny, nz, nx, ny, nz))
    d = angle(sine, dot(ux, uy, uz, vx, vy, vz), DOUBLE) - tl.load(values)
    k = tl.load(values + 1)
    # d theta/d u = u x n/(|u|^2 |n|) and d theta/d v = n x v/(|v|^2 |n|); |n| = 0 gives no direction.
    slope = k * d / tl.maximum(sine, TINY)
    by_u = slope / tl.maximum(dot(ux, uy, uz, ux, uy, uz), TINY)
    by_v = slope / tl.maximum(dot(vx, vy, vz, vx, vy, vz), TINY)
    px, py, pz = cross(nx, ny, nz, ux, uy, uz)
    qx, qy, qz = cross(nx, ny, nz, vx, vy, vz)
    # The middle atom gets what the others do not.
    sign = tl.where(place == 1, -1.0, 1.0).to(sine.dtype)
    by_u, by_v = tl.where(place == 2, 0.0, sign * by_u), tl.where(place == 0, 0.0, -sign * by_v)
    energy = tl.where(place == 0, 0.5 * k * d * d, 0.0)
    return energy, by_u * px + by_v * qx, by_u * py + by_v * qy, by_u * pz + by_v * qz


@triton.jit
def torsion_series(values, cosine, sine, EVEN: tl.constexpr, ODD: tl.constexpr):
    """P(cos phi) + sin(phi) Q(cos phi), and its derivative by phi."""
    value = tl.load(values + EVEN - 1) + 0.0 * cosine
    by_cosine = 0.0 * cosine
    for k in tl.static_range(EVEN - 1):
        by_cosine = by_cosine * cosine + value
        value = value * cosine + tl.load(values + (EVEN - 2 - k))
    slope = -sine * by_cosine
    if ODD:
        odd = tl.load(values + EVEN + ODD - 1) + 0.0 * cosine
        by_odd = 0.0 * cosine
        for k in tl.static_range(ODD - 1):
            by_odd = by_odd * cosine + odd
            odd = odd * cosine + tl.load(values + (EVEN + ODD - 2 - k))
        value += sine * odd
        slope += cosine * odd - sine * sine * by_odd
    return value, slope


@triton.jit
def cell(angle_, size):
    """Cell of a periodic grid that an angle is in, and the place within it."""
    place = angle_ * (size.to(angle_.dtype) / 6.28318530717958647693)
    floor = tl.floor(place)
    # What is not a number takes any cell; the result is not a number all the same.
    whole = tl.where(floor == floor, floor, 0.0).to(tl.int32)
    return (whole + size) % size, place - floor


@triton.jit
def patch(patches, first, size, phi, psi):
    """Bicubic patch sum_ab c[a][b] u^a v^b, and its derivatives by both angles."""
    row, u = cell(phi, size)
    column, v = cell(psi, size)
    at = patches + 16 * (first + row * size + column)
    value = 0.0 * u
    by_u, by_v = value, value
    for k in tl.static_range(4):
        c = at + 4 * (3 - k)
        c0, c1, c2, c3 = tl.load(c), tl.load(c + 1), tl.load(c + 2), tl.load(c + 3)
        by_u = by_u * u + value
        value = value * u + ((c3 * v + c2) * v + c1) * v + c0
        by_v = by_v * u + (3.0 * c3 * v + 2.0 * c2) * v + c1
    scale = size.to(phi.dtype) / 6.28318530717958647693
    return value, by_u * scale, by_v * scale


@triton.jit
def correction(x_ptr, index, patches, N: tl.constexpr, width, b, TINY: tl.constexpr, DOUBLE: tl.constexpr):
    """Correction map over two torsions."""
    one, two = tl.load(index), tl.load(index + 1)
    c1, s1, fx1, fy1, fz1, lx1, ly1, lz1, mx1, my1, mz1 = dihedral(x_ptr, index + 4, N, width, b, TINY)
    c2, s2, fx2, fy2, fz2, lx2, ly2, lz2, mx2, my2, mz2 = dihedral(x_ptr, index + 8, N, width, b, TINY)
    phi, psi = angle(s1, c1, DOUBLE), angle(s2, c2, DOUBLE)
    value, by_phi, by_psi = patch(patches, tl.load(index + 2), tl.load(index + 3), phi, psi)
    fx = share(one, by_phi, fx1, lx1, mx1) + share(two, by_psi, fx2, lx2, mx2)
    fy = share(one, by_phi, fy1, ly1, my1) + share(two, by_psi, fy2, ly2, my2)
    fz = share(one, by_phi, fz1, lz1, mz1) + share(two, by_psi, fz2, lz2, mz2)
    return tl.where(one == 0, value, 0.0), fx, fy, fz


@triton.jit
def bonded(
    x_ptr,
    force_ptr,
    energy_ptr,
    bond_starts,
    bond_index,
    bond_values,
    angle_starts,
    angle_index,
    angle_values,
    torsion_starts,
    torsion_index,
    torsion_values,
    improper_starts,
    improper_index,
    improper_values,
    map_starts,
    map_index,
    patches,
    width,
    N: tl.constexpr,
    TINY: tl.constexpr,
    EVEN: tl.constexpr,
    ODD: tl.constexpr,
    MAPS: tl.constexpr,
    DOUBLE: tl.constexpr,
    BLOCK_B: tl.constexpr,
):
    """Write forces, and energies with a row for each atom."""
    atom = tl.program_id(0)
    b = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    energy = tl.zeros([BLOCK_B], tl.float64)
    fx = tl.zeros([BLOCK_B], x_ptr.dtype.element_ty)
    fy, fz = fx, fx
    for n in range(tl.load(bond_starts + atom), tl.load(bond_starts + atom + 1)):
        value, px, py, pz = bond(x_ptr, bond_index + 3 * n, bond_values + 2 * n, N, width, b, TINY, DOUBLE)
        energy, fx, fy, fz = energy + value.to(tl.float64), fx + px, fy + py, fz + pz
    for n in range(tl.load(angle_starts + atom), tl.load(angle_starts + atom + 1)):
        value, px, py, pz = bend(x_ptr, angle_index + 4 * n, angle_values + 2 * n, N, width, b, TINY, DOUBLE)
        energy, fx, fy, fz = energy + value.to(tl.float64), fx + px, fy + py, fz + pz
    for n in range(tl.load(torsion_starts + atom), tl.load(torsion_starts + atom + 1)):
        at = torsion_index + 5 * n
        place = tl.load(at)
        cosine, sine, x0, y0, z0, x3, y3, z3, mx, my, mz = dihedral(x_ptr, at + 1, N, width, b, TINY)
        value, slope = torsion_series(torsion_values + (EVEN + ODD) * n, cosine, sine, EVEN, ODD)
        energy += tl.where(place == 0, value, 0.0).to(tl.float64)
        fx, fy = fx + share(place, slope, x0, x3, mx), fy + share(place, slope, y0, y3, my)
        fz += share(place, slope, z0, z3, mz)
    for n in range(tl.load(improper_starts + atom), tl.load(improper_starts + atom + 1)):
        at = improper_index + 5 * n
        place = tl.load(at)
        cosine, sine, x0, y0, z0, x3, y3, z3, mx, my, mz = dihedral(x_ptr, at + 1, N, width, b, TINY)
        # The shorter way around; neither angle is more than a turn from zero.
        d = angle(sine, cosine, DOUBLE) - tl.load(improper_values + 2 * n)
        d = tl.where(d > 3.14159265358979323846, d - 6.28318530717958647693, d)
        d = tl.where(d < -3.14159265358979323846, d + 6.28318530717958647693, d)
        slope = tl.load(improper_values + 2 * n + 1) * d
        energy += tl.where(place == 0, slope * d, 0.0).to(tl.float64)
        slope = 2.0 * slope
        fx, fy = fx + share(place, slope, x0, x3, mx), fy + share(place, slope, y0, y3, my)
        fz += share(place, slope, z0, z3, mz)
    if MAPS:
        for n in range(tl.load(map_starts + atom), tl.load(map_starts + atom + 1)):
            value, px, py, pz = correction(x_ptr, map_index + 12 * n, patches, N, width, b, TINY, DOUBLE)
            energy, fx, fy, fz = energy + value.to(tl.float64), fx + px, fy + py, fz + pz
    tl.store(energy_ptr + atom * width + b, energy)
    at = force_ptr + atom * width + b
    tl.store(at, fx)
    tl.store(at + N * width, fy)
    tl.store(at + 2 * N * width, fz)
