// Bonds, angles, torsions, impropers and correction maps: energies and analytic forces.
#pragma once

#include "simd.hpp"
#include "tables.hpp"

namespace gibbsian::GIBBSIAN_ISA {

// Length (nm) or sine below which a direction is not defined.
template <class T>
inline constexpr T kTiny = sizeof(T) == 4 ? T(1e-6) : T(1e-10);

// k/2 (r - r0)^2
template <class T>
void add_bonds(const Terms<T>& terms, Space<T>& space) {
    for (std::size_t n = 0; n < terms.size; ++n) {
        const Index* at = terms.atoms + 2 * n;
        const T length = terms.values[2 * n], k = terms.values[2 * n + 1];
        auto d = load3(space.x, at[0]) - load3(space.x, at[1]);
        const Vec<T> r2 = dot(d, d), inverse = inverse_root(larger(r2, splat(kTiny<T> * kTiny<T>)));
        // r - r0 as a quotient: the difference itself would lose digits, and bonds are stiff.
        const Vec<T> stretch = (r2 - length * length) / (r2 * inverse + length);
        auto force = (-k * stretch * inverse) * d;
        add_energy<T>(space.energy, T(0.5) * k * stretch * stretch);
        add3(space.force, at[0], force);
        add3(space.force, at[1], -force);
    }
}

// k/2 (theta - theta0)^2
template <class T>
void add_angles(const Terms<T>& terms, Space<T>& space) {
    const Vec<T> tiny = splat(kTiny<T>);
    for (std::size_t n = 0; n < terms.size; ++n) {
        const Index* at = terms.atoms + 3 * n;
        const T theta = terms.values[2 * n], k = terms.values[2 * n + 1];
        auto middle = load3(space.x, at[1]);
        auto u = load3(space.x, at[0]) - middle, v = load3(space.x, at[2]) - middle;
        auto normal = cross(u, v);
        Vec<T> sine = square_root(dot(normal, normal));
        Vec<T> bend = angle(sine, dot(u, v)) - theta;
        // d theta/d u = u x n/(|u|^2 |n|) and d theta/d v = n x v/(|v|^2 |n|); |n| = 0 gives no direction.
        Vec<T> slope = k * bend / larger(sine, tiny);
        auto first = (slope / larger(dot(u, u), tiny)) * cross(normal, u);
        auto last = (slope / larger(dot(v, v), tiny)) * cross(v, normal);
        add_energy<T>(space.energy, T(0.5) * k * bend * bend);
        add3(space.force, at[0], first);
        add3(space.force, at[2], last);
        add3(space.force, at[1], -(first + last));
    }
}

// Geometry of a torsion: J. Comput. Chem. 17, 1132 (1996), without singularity for planar torsions. The normals are
// clamped, so that collinear atoms give finite forces.
template <class T>
struct Dihedral {
    const Index* at;
    Vec3<T> f, g, h, a, b;
    Vec<T> inverse_a2, inverse_b2, length, cosine, sine;

    GIBBSIAN_INLINE Dihedral(const Space<T>& space, const Index* atoms) : at(atoms) {
        const Vec<T> tiny = splat(kTiny<T> * kTiny<T>);
        auto second = load3(space.x, at[1]), third = load3(space.x, at[2]);
        f = load3(space.x, at[0]) - second;
        g = second - third;
        h = load3(space.x, at[3]) - third;
        a = cross(f, g);
        b = cross(h, g);
        Vec<T> root_a = inverse_root(larger(dot(a, a), tiny)), root_b = inverse_root(larger(dot(b, b), tiny));
        inverse_a2 = root_a * root_a;
        inverse_b2 = root_b * root_b;
        length = square_root(larger(dot(g, g), tiny));
        cosine = dot(a, b) * root_a * root_b;
        sine = -dot(f, b) * root_a * root_b * length;
    }

    // Adds the force of dE/dphi.
    GIBBSIAN_INLINE void push(Space<T>& space, Vec<T> slope) const {
        Vec<T> by_a = slope * inverse_a2, by_b = slope * inverse_b2, inverse = 1 / length;
        auto first = (by_a * length) * a, last = (-by_b * length) * b;
        auto middle = (dot(f, g) * inverse * by_a) * a - (dot(h, g) * inverse * by_b) * b;
        add3(space.force, at[0], first);
        add3(space.force, at[1], -(first + middle));
        add3(space.force, at[2], middle - last);
        add3(space.force, at[3], last);
    }
};

// P(cos phi) + sin(phi) Q(cos phi)
template <class T>
void add_torsions(const Torsions<T>& torsions, Space<T>& space) {
    const int width = torsions.even + torsions.odd;
    for (std::size_t n = 0; n < torsions.terms.size; ++n) {
        Dihedral<T> dihedral(space, torsions.terms.atoms + 4 * n);
        const T* c = torsions.terms.values + n * width;
        Vec<T> cosine = dihedral.cosine, sine = dihedral.sine;
        Vec<T> value = splat(c[torsions.even - 1]), by_cosine{};
        for (int k = torsions.even - 2; k >= 0; --k) {
            by_cosine = by_cosine * cosine + value;
            value = value * cosine + c[k];
        }
        Vec<T> slope = -sine * by_cosine;
        if (torsions.odd) {
            Vec<T> odd = splat(c[width - 1]), by_odd{};
            for (int k = width - 2; k >= torsions.even; --k) {
                by_odd = by_odd * cosine + odd;
                odd = odd * cosine + c[k];
            }
            value += sine * odd;
            slope += cosine * odd - sine * sine * by_odd;
        }
        add_energy<T>(space.energy, value);
        dihedral.push(space, slope);
    }
}

// phi - phi0 brought to within half a turn of zero; neither is more than a turn from it.
template <class T>
GIBBSIAN_INLINE Vec<T> difference(const Dihedral<T>& dihedral, Vec<T> phi0) {
    constexpr T pi = T(3.14159265358979323846);
    Vec<T> d = angle(dihedral.sine, dihedral.cosine) - phi0;
    d = d > pi ? d - 2 * pi : d;
    return d < -pi ? d + 2 * pi : d;
}

// k d^2
template <class T>
void add_impropers(const Terms<T>& terms, Space<T>& space) {
    for (std::size_t n = 0; n < terms.size; ++n) {
        Dihedral<T> dihedral(space, terms.atoms + 4 * n);
        const T phi0 = terms.values[2 * n], k = terms.values[2 * n + 1];
        const Vec<T> d = difference(dihedral, splat(phi0));
        add_energy<T>(space.energy, k * d * d);
        dihedral.push(space, 2 * k * d);
    }
}

// Bicubic patches sum_ab c[a][b] u^a v^b in the two angles.
template <class T>
void add_maps(const Maps<T>& maps, Space<T>& space) {
    constexpr int lanes = kLanes<T>;
    constexpr T turn = T(6.28318530717958647693);
    for (std::size_t n = 0; n < maps.terms.size; ++n) {
        Dihedral<T> one(space, maps.terms.atoms + 8 * n), two(space, maps.terms.atoms + 8 * n + 4);
        const int size = maps.size[n];
        Vec<T> u = angle(one.sine, one.cosine) * (size / turn), v = angle(two.sine, two.cosine) * (size / turn);
        Vec<T> c[16];
        for (int lane = 0; lane < lanes; ++lane) {
            T cell_u = std::floor(u[lane]), cell_v = std::floor(v[lane]);
            u[lane] -= cell_u, v[lane] -= cell_v;
            // Angles that are not numbers take any patch; the result is not a number all the same.
            const bool sound = cell_u == cell_u && cell_v == cell_v;
            const int i = sound ? (int(cell_u) + size) % size : 0, j = sound ? (int(cell_v) + size) % size : 0;
            const T* patch = maps.terms.values + 16 * (std::size_t(maps.first[n]) + i * size + j);
            for (int k = 0; k < 16; ++k) c[k][lane] = patch[k];
        }
        Vec<T> value{}, by_u{}, by_v{};
        for (int a = 3; a >= 0; --a) {
            Vec<T> row = ((c[4 * a + 3] * v + c[4 * a + 2]) * v + c[4 * a + 1]) * v + c[4 * a];
            by_u = by_u * u + value;
            value = value * u + row;
            by_v = by_v * u + (3 * c[4 * a + 3] * v + 2 * c[4 * a + 2]) * v + c[4 * a + 1];
        }
        add_energy<T>(space.energy, value);
        one.push(space, by_u * (size / turn));
        two.push(space, by_v * (size / turn));
    }
}

}  // namespace gibbsian::GIBBSIAN_ISA
