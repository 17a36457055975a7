// How much two atoms take solvent away from each other, and what follows for the Born radii.
#pragma once

#include "simd.hpp"
#include "tables.hpp"

namespace gibbsian::GIBBSIAN_ISA {

// A screening integral and its derivative by the distance.
template <class T>
struct Integral {
    Vec<T> value, slope;
};

// Both atoms of a pair: `i` is what j does to i.
template <class T>
struct BothIntegrals {
    Integral<T> i, j;
};

// With t = s/r < 1 and no overlap the integral is t^3/r P(t^2): a short polynomial for distant atoms.
template <class T, std::size_t n, std::size_t m>
GIBBSIAN_INLINE Integral<T> distant(const T (&p)[n], const T (&q)[m], T scaled, Vec<T> inverse) {
    const Vec<T> t = scaled * inverse, z = t * t, cube = t * z * inverse;
    return {cube * polynomial(p, z), -cube * inverse * polynomial(q, z)};
}

// With L = max(or, |r - s|), U = r + s: (1/L - 1/U + (r - s^2/r)(1/U^2 - 1/L^2)/4 + ln(L/U)/(2 r))/2. Its derivatives
// by L and U cancel those of the limits, but for an engulfed atom (r + or < s), where +1/L^2 is left unless the term
// 1/or - 1/L is added, as OpenMM's built-in force does.
template <class T>
Integral<T> close(T scaled, const BornAtom<T>& atom, bool engulfed_term, Vec<T> r, Vec<T> inverse) {
    const Vec<T> radius = splat(atom.offset_radius);
    // Out of reach U < or; raised to or it equals L, and the integral vanishes.
    const Vec<T> upper = larger(r + scaled, radius), lower = larger(absolute(r - scaled), radius);
    const Vec<T> inverse_lower = reciprocal(lower), inverse_upper = reciprocal(upper);
    const Vec<T> difference = inverse_lower - inverse_upper, product = (inverse_lower + inverse_upper) * difference;
    const Vec<T> log = logarithm(upper * inverse_lower) * inverse, ratio = scaled * scaled * inverse;
    Integral<T> result{T(0.5) * difference - T(0.125) * (r - ratio) * product - T(0.25) * log,
                       T(0.25) * log * inverse - T(0.125) * (1 + ratio * inverse) * product};
    if (scaled > atom.offset_radius) {
        const auto engulfed = r < scaled - atom.offset_radius;
        if (engulfed_term) result.value += engulfed ? atom.inverse_offset_radius - inverse_lower : Vec<T>{};
        else result.slope += engulfed ? inverse_lower * inverse_lower : Vec<T>{};
    }
    if (scaled < 0) {
        const auto outside = r + scaled < radius;
        result.value = outside ? Vec<T>{} : result.value;
        result.slope = outside ? Vec<T>{} : result.slope;
    }
    return result;
}

// Neck correction h/(1 + 100 d^2 + 3e5 d^6), d = r - d0.
template <class T>
GIBBSIAN_INLINE void add_neck(T height, T distance, Vec<T> r, Vec<T> beyond_zero, Integral<T>& integral) {
    const Vec<T> d = r - distance, d2 = d * d, d4 = d2 * d2;
    const Vec<T> value = beyond_zero * reciprocal(1 + 100 * d2 + T(3e5) * d4 * d2);
    integral.value += height * value;
    integral.slope -= height * value * value * d * (200 + T(1.8e6) * d4);
}

template <class T>
struct Screening {
    using Series = series::Table<T>;
    const Born<T>& born;

    explicit Screening(const Born<T>& b) : born(b) {}

    GIBBSIAN_INLINE BothIntegrals<T> operator()(const Tables<T>& tables, std::size_t p, const BornAtom<T>& i,
                                                const BornAtom<T>& j, Vec<T> r2, Vec<T> inverse) const {
        BothIntegrals<T> both;
        const Pair<T>& pair = tables.pairs[p];
        if (!any_less(r2, splat(pair.mid2))) {
            both.i = distant<T>(Series::screening_short, Series::screening_slope_short, j.scaled, inverse);
            both.j = distant<T>(Series::screening_short, Series::screening_slope_short, i.scaled, inverse);
        } else if (!any_less(r2, splat(pair.near2))) {
            both.i = distant<T>(Series::screening_long, Series::screening_slope_long, j.scaled, inverse);
            both.j = distant<T>(Series::screening_long, Series::screening_slope_long, i.scaled, inverse);
        } else {
            const Vec<T> r = r2 * inverse;
            both.i = close(j.scaled, i, born.engulfed_term, r, inverse);
            both.j = close(i.scaled, j, born.engulfed_term, r, inverse);
        }
        if (born.neck) add_necks(born.neck[p], r2, inverse, both);
        if (born.cutoff) {
            const auto within = r2 <= born.cutoff * born.cutoff;
            const auto cut = [within](Integral<T>& one) {
                one.value = within ? one.value : Vec<T>{};
                one.slope = within ? one.slope : Vec<T>{};
            };
            cut(both.i);
            cut(both.j);
        }
        return both;
    }

    GIBBSIAN_INLINE static void add_necks(const Neck<T>& neck, Vec<T> r2, Vec<T> inverse, BothIntegrals<T>& both) {
        const Vec<T> r = r2 * inverse;
        if (!any_less(r, splat(neck.reach))) return;
        const Vec<T> within = r <= neck.reach ? splat(T(1)) : Vec<T>{};
        add_neck(neck.height_ij, neck.distance_ij, r, within, both.i);
        add_neck(neck.height_ji, neck.distance_ji, r, within, both.j);
    }
};

// Born radii, their inverses, and their derivatives by the sums.
template <class T>
void find_radii(const Tables<T>& tables, Space<T>& space) {
    for (std::size_t i = 0; i < tables.n_atoms; ++i) {
        const BornAtom<T>& atom = tables.born.atoms[i];
        Vec<T> sum = load(space.sums, i), inverse, slope;
        if (tables.born.rescaled) {
            const Vec<T> psi = sum * atom.offset_radius;
            const Vec<T> argument = ((atom.gamma * psi - atom.beta) * psi + atom.alpha) * psi;
            const Vec<T> tanh = 1 - 2 / (1 + exponential(2 * argument));
            inverse = atom.inverse_offset_radius - tanh * atom.inverse_radius;
            slope = ((3 * atom.gamma * psi - 2 * atom.beta) * psi + atom.alpha) * (1 - tanh * tanh) *
                    (atom.offset_radius * atom.inverse_radius);
        } else {
            inverse = atom.inverse_offset_radius - sum;
            slope = splat(T(1));
        }
        const Vec<T> radius = 1 / inverse;
        store(space.radii, i, radius);
        store(space.inverse, i, inverse);
        store(space.radii_slope, i, Vec<T>(slope * radius * radius));
    }
}

// Self and surface energies; turns dE/dln(B) of the pairs into dE/d(sum) of everything.
template <class T>
void add_atoms(const Tables<T>& tables, Space<T>& space) {
    for (std::size_t i = 0; i < tables.n_atoms; ++i) {
        const BornAtom<T>& atom = tables.born.atoms[i];
        const Vec<T> radius = load(space.radii, i), inverse = load(space.inverse, i);
        Vec<T> by_log = load(space.by_log, i);
        Vec<T> salt = splat(atom.solvent);
        if (tables.born.kappa) {
            salt *= exponential(-tables.born.kappa * radius);
            by_log += tables.born.kappa * salt;
        }
        const Vec<T> value = (atom.solute - salt) * inverse;
        const Vec<T> inverse2 = inverse * inverse, area = atom.surface * inverse2 * inverse2 * inverse2;
        add_energy<T>(space.energy, value + area);
        by_log -= value + 6 * area;
        store(space.by_log, i, Vec<T>(by_log * inverse * load(space.radii_slope, i)));
    }
}

}  // namespace gibbsian::GIBBSIAN_ISA
