"""Functions that the kernels share: vectors, distances, and the angle of a point."""
# pyright: reportMissingImports=false

import triton
import triton.language as tl


@triton.jit
def dot(ax, ay, az, bx, by, bz):
    """Scalar product."""
    return ax * bx + ay * by + az * bz


@triton.jit
def cross(ax, ay, az, bx, by, bz):
    """Vector product."""
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
def load3(x, atom, n_atoms, width, b):
    """Coordinates of an atom in conformations `b`."""
    at = x + atom * width + b
    return tl.load(at), tl.load(at + n_atoms * width), tl.load(at + 2 * n_atoms * width)


@triton.jit
def angle(y, x, DOUBLE: tl.constexpr):
    """Angle of the point (x, y), in [-pi, pi]."""
    ay, ax = tl.abs(y), tl.abs(x)
    low, high = tl.minimum(ax, ay), tl.maximum(tl.maximum(ax, ay), 1e-37)
    steep = low > high * 0.41421356237309504880
    t = tl.where(steep, low - high, low) / tl.where(steep, low + high, high)
    z = t * t
    # Interpolation of arctan(t)/t at Chebyshev points of t^2 in [0, tan(pi/8)^2].
    if DOUBLE:
        p = (0.0150998848648219651 * z - 0.0333741022428996182) * z + 0.0449890824678145065
        p = ((p * z - 0.0521716589959529964) * z + 0.0587681102612102178) * z - 0.066662028877461991
        p = ((p * z + 0.0769228093698426159) * z - 0.0909090805168360596) * z + 0.111111110851127506
        p = ((p * z - 0.14285714285326201) * z + 0.199999999999969837) * z - 0.333333333333333241
        p = p * z + 1.0
    else:
        p = (-0.0602396317759973663 * z + 0.105689207837133327) * z - 0.14239410856830652
        p = ((p * z + 0.199981764661083961) * z - 0.333333067711106822) * z + 0.999999999367697985
    value = t * p
    value = tl.where(steep, 0.78539816339744830962 + value, value)
    value = tl.where(ay > ax, 1.57079632679489661923 - value, value)
    value = tl.where(x < 0, 3.14159265358979323846 - value, value)
    return tl.where(y < 0, -value, value)


@triton.jit
def add_exactly(total, lost, value):
    """Add to a sum of many terms; `lost` carries what rounding took (Kahan)."""
    wanted = value - lost
    new = total + wanted
    return new, (new - total) - wanted


@triton.jit
def separation(xi, yi, zi, xj, yj, zj, SHORTEST2: tl.constexpr):
    """Difference vector, squared distance and inverse distance."""
    dx, dy, dz = xi - xj, yi - yj, zi - zj
    r2 = tl.maximum(dot(dx, dy, dz, dx, dy, dz), SHORTEST2)
    return dx, dy, dz, r2, tl.rsqrt(r2)
