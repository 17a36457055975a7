"""Makes series.hpp: polynomial coefficients of the elementary functions that the kernels need.

Each polynomial interpolates its function at Chebyshev points, which is within a factor of two of the best possible,
computed in 40 digits. Run `python kernels/series.py > kernels/series.hpp` (needs mpmath) after a change.
"""

from collections.abc import Callable

from mpmath import mp, mpf

mp.dps = 40
Function = Callable[[mpf], mpf]


def fit(function: Function, low: float, high: float, degree: int) -> list[mpf]:
    """Power-series coefficients, lowest first."""
    nodes = [
        (mpf(low) + high) / 2 + (mpf(high) - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2))
        for k in range(degree + 1)
    ]
    matrix = mp.matrix([[x**n for n in range(degree + 1)] for x in nodes])
    return list(mp.lu_solve(matrix, mp.matrix([function(x) for x in nodes])))


def screening(z: mpf) -> mpf:
    """I = t^3/r P(z), z = t^2: half of t/(1 - z) - artanh t, over t^3."""
    if z < mpf(10) ** -12:
        return mpf(1) / 3 + mpf(2) / 5 * z
    t = mp.sqrt(z)
    return (t / (1 - z) - mp.atanh(t)) / (2 * t**3)


def screening_slope(z: mpf) -> mpf:
    """dI/dr = -t^3/r^2 Q(z)."""
    return screening(z) + 1 / (1 - z) ** 2


def artanh(z: mpf) -> mpf:
    """Return 2 artanh(s)/s at s^2 = z."""
    if z < mpf(10) ** -12:
        return 2 + 2 * z / 3
    s = mp.sqrt(z)
    return 2 * mp.atanh(s) / s


def arctan(z: mpf) -> mpf:
    """Return arctan(t)/t at t^2 = z."""
    return 1 - z / 3 if z < mpf(10) ** -12 else mp.atan(mp.sqrt(z)) / mp.sqrt(z)


def sine(z: mpf) -> mpf:
    """Return sin(pi f/2)/f at f^2 = z."""
    return mp.pi / 2 if z == 0 else mp.sin(mp.pi * mp.sqrt(z) / 2) / mp.sqrt(z)


def cosine(z: mpf) -> mpf:
    """Return cos(pi f/2) at f^2 = z."""
    return mp.cos(mp.pi * mp.sqrt(z) / 2)


ARTANH_MAX = float(((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2) * 1.001
ARCTAN_MAX = float(mp.tan(mp.pi / 8) ** 2) * 1.001
TABLE: tuple[tuple[str, Function, float, float, int, int], ...] = (
    # name, function, from, to, degree in single and in double precision
    ("exp2", lambda f: mpf(2) ** f, -0.5, 0.5, 6, 11),
    ("artanh", artanh, 0.0, ARTANH_MAX, 4, 10),
    ("arctan", arctan, 0.0, ARCTAN_MAX, 5, 12),
    ("sine", sine, 0.0, 0.25, 4, 7),
    ("cosine", cosine, 0.0, 0.25, 4, 7),
    ("screening_long", screening, 0.0, 0.3, 6, 15),
    ("screening_short", screening, 0.0, 0.1, 4, 10),
    ("screening_slope_long", screening_slope, 0.0, 0.3, 7, 16),
    ("screening_slope_short", screening_slope, 0.0, 0.1, 4, 11),
)


def main() -> None:
    """Print the header."""
    print("// Made by series.py; do not edit. Power-series coefficients, lowest first.")
    print("#pragma once\n\nnamespace gibbsian::series {\n")
    print("template <class T>\nstruct Table;\n")
    for kind, column in (("float", 4), ("double", 5)):
        print(f"template <>\nstruct Table<{kind}> {{")
        for row in TABLE:
            name, function, low, high = row[:4]
            values = ", ".join(mp.nstr(c, 18) for c in fit(function, low, high, row[column]))  # type: ignore[call-overload]
            print(f"    static constexpr {kind} {name}[] = {{{values}}};")
        print("};\n")
    print("}  // namespace gibbsian::series")


if __name__ == "__main__":
    main()
