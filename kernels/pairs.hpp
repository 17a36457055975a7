// Coulomb, Lennard-Jones and generalized Born over all pairs i < j.
//
// Born radii couple all pairs, so there are three passes: screening sums; energies, with forces at fixed radii; forces
// through the radii. Where they fit the cache, r^2, 1/r and the slopes of the screening integrals are kept between
// them, else they are computed again.
#pragma once

#include "screening.hpp"

namespace gibbsian::GIBBSIAN_ISA {

// Pairs whose energies are summed in the precision of the kernel before they go to the double-precision sum.
inline constexpr std::size_t kSummed = 8;

// Distances of one pair.
template <class T>
struct Distance {
    Vec3<T> d;
    Vec<T> r2, inverse;

    GIBBSIAN_INLINE Distance(Vec3<T> xi, const T* x, std::size_t j, T shortest2) : d(xi - load3(x, j)) {
        r2 = larger(dot(d, d), splat(shortest2));
        inverse = inverse_root(r2);
    }
};

// Adds to a sum of many terms; `lost` carries what rounding took (Kahan). Born radii hang on the last digits.
template <class T>
GIBBSIAN_INLINE void add_exactly(Vec<T>& sum, Vec<T>& lost, Vec<T> value) {
    const Vec<T> wanted = value - lost, total = sum + wanted;
    lost = (total - sum) - wanted;
    sum = total;
}

// First pass: adds the screening integrals to the sums.
template <class T, bool kKeep>
void sum_screening(const Tables<T>& tables, Space<T>& space) {
    const Screening<T> screening(tables.born);
    for (std::size_t i = 0, p = 0; i < tables.n_atoms; ++i) {
        const auto xi = load3(space.x, i);
        const BornAtom<T>& atom = tables.born.atoms[i];
        Vec<T> sum = load(space.sums, i), lost = load(space.lost, i);
        for (std::size_t j = i + 1; j < tables.n_atoms; ++j, ++p) {
            const Distance<T> at(xi, space.x, j, tables.shortest2);
            const auto both = screening(tables, p, atom, tables.born.atoms[j], at.r2, at.inverse);
            Vec<T> other = load(space.sums, j), other_lost = load(space.lost, j);
            add_exactly<T>(sum, lost, both.i.value);
            add_exactly<T>(other, other_lost, both.j.value);
            store(space.sums, j, other);
            store(space.lost, j, other_lost);
            if constexpr (kKeep) {
                T* kept = space.kept + 4 * p * kLanes<T>;
                store(kept, 0, at.r2);
                store(kept, 1, at.inverse);
                store(kept, 2, Vec<T>(both.i.slope * at.inverse));
                store(kept, 3, Vec<T>(both.j.slope * at.inverse));
            }
        }
        store(space.sums, i, sum);
    }
}

// Energy and force over distance of one pair at fixed Born radii.
template <class T>
struct Push {
    Vec<T> energy, over_r;
};

template <class T>
GIBBSIAN_INLINE Push<T> direct(const Pair<T>& pair, const Cut<T>* cut, Vec<T> r2, Vec<T> inverse) {
    const Vec<T> inverse2 = inverse * inverse, inverse6 = inverse2 * inverse2 * inverse2;
    const Vec<T> coulomb = pair.charge * inverse, lj = (pair.a * inverse6 - pair.b) * inverse6;
    Push<T> push{coulomb + lj, (coulomb + 12 * lj + (6 * pair.b) * inverse6) * inverse2};
    if (cut) {
        const auto within = r2 <= cut->cutoff2;
        push.energy += pair.charge * (cut->field * r2 - cut->shift);
        push.over_r -= 2 * pair.charge * cut->field;
        push.energy = within ? push.energy : Vec<T>{};
        push.over_r = within ? push.over_r : Vec<T>{};
    }
    return push;
}

// Adds the polarisation energy of a pair; returns dE/dln(B) of both radii.
template <class T>
GIBBSIAN_INLINE Vec<T> polarise(const Born<T>& born, T charges, Vec<T> r2, Vec<T> b2, Vec<T> inverse_b2, Push<T>& push) {
    const Vec<T> overlap = power_of_two((r2 * T(-0.25 * 1.4426950408889634074)) * inverse_b2);
    const Vec<T> f2 = r2 + b2 * overlap, inverse = inverse_root(f2);
    Vec<T> value = charges * inverse, slope = value * inverse * inverse;
    if (born.kappa) {
        // charges/(1 - ratio) (1 - ratio exp(-kappa f)) (1/f - 1/cutoff)
        const Vec<T> salt = (charges * born.salt_ratio / (1 - born.salt_ratio)) * exponential(-born.kappa * f2 * inverse);
        const Vec<T> strength = charges / (1 - born.salt_ratio) - salt;
        const Vec<T> shifted = inverse - (born.cutoff ? 1 / born.cutoff : T(0));
        slope = (strength * inverse * inverse - born.kappa * salt * shifted) * inverse;
        value = strength * shifted;
    } else if (born.cutoff) {
        value -= charges / born.cutoff;
    }
    if (born.cutoff) {
        const auto within = r2 <= born.cutoff * born.cutoff;
        value = within ? value : Vec<T>{};
        slope = within ? slope : Vec<T>{};
    }
    push.energy += value;
    push.over_r += slope - T(0.25) * overlap * slope;
    return T(-0.5) * slope * overlap * (b2 + T(0.25) * r2);
}

// Second pass: energies; forces at fixed radii go to the atoms or, with kKeep, to the place of r^2.
template <class T, bool kBorn, bool kKeep>
void add_pairs(const Tables<T>& tables, Space<T>& space) {
    for (std::size_t i = 0, p = 0; i < tables.n_atoms; ++i) {
        const auto xi = load3(space.x, i);
        Vec3<T> force{};
        Vec<T> energy{}, by_log{}, radius{}, inverse_radius{};
        if constexpr (kBorn) radius = load(space.radii, i), inverse_radius = load(space.inverse, i);
        for (std::size_t j = i + 1; j < tables.n_atoms; ++j, ++p) {
            T* kept = space.kept + 4 * p * kLanes<T>;
            Vec3<T> d{};
            Vec<T> r2, inverse;
            if constexpr (kKeep) {
                r2 = load(kept, 0), inverse = load(kept, 1);
            } else {
                const Distance<T> at(xi, space.x, j, tables.shortest2);
                d = at.d, r2 = at.r2, inverse = at.inverse;
            }
            Push<T> push = direct(tables.pairs[p], tables.cuts ? tables.cuts + p : nullptr, r2, inverse);
            if constexpr (kBorn) {
                const Vec<T> b2 = radius * load(space.radii, j), inverse_b2 = inverse_radius * load(space.inverse, j);
                const Vec<T> change = polarise(tables.born, tables.pairs[p].born, r2, b2, inverse_b2, push);
                by_log += change;
                add_to(space.by_log, j, change);
            }
            energy += push.energy;
            if (j % kSummed == 0) {
                add_energy<T>(space.energy, energy);
                energy = Vec<T>{};
            }
            if constexpr (kKeep) {
                store(kept, 0, push.over_r);
            } else {
                const Vec3<T> pair_force = push.over_r * d;
                force = force + pair_force;
                add3(space.force, j, -pair_force);
            }
        }
        add_energy<T>(space.energy, energy);
        if constexpr (kBorn) add_to(space.by_log, i, by_log);
        if constexpr (!kKeep) add3(space.force, i, force);
    }
}

// Third pass: forces through the Born radii; space.by_log holds dE/d(sum).
template <class T, bool kKeep>
void add_chain(const Tables<T>& tables, Space<T>& space) {
    const Screening<T> screening(tables.born);
    for (std::size_t i = 0, p = 0; i < tables.n_atoms; ++i) {
        const auto xi = load3(space.x, i);
        const BornAtom<T>& atom = tables.born.atoms[i];
        const Vec<T> by_sum = load(space.by_log, i);
        Vec3<T> force{};
        for (std::size_t j = i + 1; j < tables.n_atoms; ++j, ++p) {
            const Vec<T> by_other = load(space.by_log, j);
            Vec3<T> pair_force;
            if constexpr (kKeep) {
                const T* kept = space.kept + 4 * p * kLanes<T>;
                pair_force = (load(kept, 0) - by_sum * load(kept, 2) - by_other * load(kept, 3)) *
                             (xi - load3(space.x, j));
            } else {
                const Distance<T> at(xi, space.x, j, tables.shortest2);
                const auto both = screening(tables, p, atom, tables.born.atoms[j], at.r2, at.inverse);
                pair_force = (-(by_sum * both.i.slope + by_other * both.j.slope) * at.inverse) * at.d;
            }
            force = force + pair_force;
            add3(space.force, j, -pair_force);
        }
        add3(space.force, i, force);
    }
}

template <class T>
void add_nonbonded(const Tables<T>& tables, Space<T>& space) {
    if (!tables.born.atoms) return add_pairs<T, false, false>(tables, space);
    if (tables.keep_pairs) {
        sum_screening<T, true>(tables, space);
        find_radii(tables, space);
        add_pairs<T, true, true>(tables, space);
        add_atoms(tables, space);
        add_chain<T, true>(tables, space);
    } else {
        sum_screening<T, false>(tables, space);
        find_radii(tables, space);
        add_pairs<T, true, false>(tables, space);
        add_atoms(tables, space);
        add_chain<T, false>(tables, space);
    }
}

}  // namespace gibbsian::GIBBSIAN_ISA
