// Langevin dynamics with the middle scheme, one walker per lane; all steps of a stretch run in the cache.
#pragma once

#include "energy.hpp"
#include "random.hpp"

namespace gibbsian::GIBBSIAN_ISA {

inline constexpr int kConstraintSweeps = 200;

// Goes over the rigid bonds until `correct(i, j, 1/m_i, 1/m_j, length^2)` finds none that it must change.
template <class T, class Correct>
void sweep_bonds(const Motion<T>& motion, const Correct& correct) {
    bool changed = true;
    for (int sweep = 0; changed && sweep < kConstraintSweeps; ++sweep) {
        changed = false;
        for (std::size_t n = 0; n < motion.n_constraints; ++n) {
            const Index i = motion.constrained[2 * n], j = motion.constrained[2 * n + 1];
            const T over_i = T(1 / motion.masses[i]), over_j = T(1 / motion.masses[j]);
            changed |= correct(i, j, over_i, over_j, T(motion.lengths[n] * motion.lengths[n]));
        }
    }
}

// Moves x until the rigid bonds have their lengths, along the bonds of `reference` (SHAKE).
template <class T>
void constrain_positions(const Motion<T>& motion, T* x, const T* reference) {
    const Vec<T> tolerance = splat(sizeof(T) == 4 ? T(2e-6) : T(1e-10));
    sweep_bonds(motion, [=](Index i, Index j, T over_i, T over_j, T length2) {
        const auto d = load3(x, i) - load3(x, j), along = load3(reference, i) - load3(reference, j);
        const Vec<T> excess = length2 - dot(d, d);
        if (!any_less(tolerance * length2, absolute(excess))) return false;
        const Vec<T> step = excess / (2 * (over_i + over_j) * dot(d, along));
        add3(x, i, (step * over_i) * along);
        add3(x, j, (-step * over_j) * along);
        return true;
    });
}

// Takes out of v what would change the lengths of the rigid bonds (RATTLE).
template <class T>
void constrain_velocities(const Motion<T>& motion, const T* x, T* v) {
    const Vec<T> tolerance = splat(sizeof(T) == 4 ? T(1e-6) : T(1e-10));
    sweep_bonds(motion, [=](Index i, Index j, T over_i, T over_j, T) {
        const auto d = load3(x, i) - load3(x, j);
        const Vec<T> along = dot(d, load3(v, i) - load3(v, j));
        if (!any_less(tolerance, absolute(along))) return false;
        const Vec<T> step = -along / ((over_i + over_j) * dot(d, d));
        add3(v, i, (step * over_i) * d);
        add3(v, j, (-step * over_j) * d);
        return true;
    });
}

// Shortens forces beyond the cap; those that are not numbers become zero.
template <class T>
void cap_forces(std::size_t n_atoms, T cap, T* force) {
    for (std::size_t i = 0; i < n_atoms; ++i) {
        const auto f = load3(force, i);
        const Vec<T> size = square_root(dot(f, f)), largest = splat(cap);
        const Vec<T> scale = size < largest ? splat(T(1)) : largest / size;
        const auto sound = size < splat(T(1e30));
        for (int c = 0; c < 3; ++c) store(force, 3 * i + c, sound ? scale * load(force, 3 * i + c) : Vec<T>{});
    }
}

// Forces of k/2 d^2 on torsions; the energy stays that of the molecule.
template <class T>
void add_umbrellas(const Motion<T>& motion, const std::size_t* walkers, Space<T>& space) {
    for (std::size_t n = 0; n < motion.n_umbrellas; ++n) {
        Vec<T> centre, k;
        for (int lane = 0; lane < kLanes<T>; ++lane) {
            const std::size_t at = walkers[lane] * motion.n_umbrellas + n;
            centre[lane] = T(motion.centres[at]);
            k[lane] = T(motion.strengths[at]);
        }
        const Dihedral<T> dihedral(space, motion.biased + 4 * n);
        dihedral.push(space, k * difference(dihedral, centre));
    }
}

// v += dt f/m;  x += dt v/2;  v = a v + sqrt((1 - a^2) kT/m) R;  x += dt v/2
template <class T>
struct Middle {
    static constexpr int lanes = kLanes<T>;
    const Motion<T>& motion;
    std::size_t n_atoms;
    T half, decay;
    Vec<T> thermal;  // sqrt((1 - a^2) kT)
    std::size_t walkers[lanes];

    Middle(const Motion<T>& m, std::size_t atoms, std::size_t first, std::size_t n)
        : motion(m), n_atoms(atoms), half(T(m.timestep / 2)), decay(T(std::exp(-m.friction * m.timestep))) {
        const double spread = 1 - std::exp(-2 * m.friction * m.timestep);
        for (int k = 0; k < lanes; ++k) {
            const std::size_t walker = first + (std::size_t(k) < n ? k : n - 1);
            walkers[k] = walker;
            thermal[k] = T(std::sqrt(spread * m.kt[walker]));
        }
    }

    void kick(Space<T>& space) const {
        for (std::size_t i = 0; i < n_atoms; ++i) {
            const T by_mass = T(motion.timestep / motion.masses[i]);
            for (std::size_t c = 3 * i; c < 3 * i + 3; ++c) add_to(space.v, c, Vec<T>(by_mass * load(space.force, c)));
        }
    }

    void drift(Space<T>& space, std::uint64_t step) const {
        const std::size_t n = 3 * n_atoms;
        for (std::size_t start = 0; start < n; start += 4) {
            Vec<T> normal[4];
            four_normals<T>(motion.seed, step, std::uint32_t(start / 4), walkers, normal);
            for (std::size_t c = start; c < start + 4 && c < n; ++c) {
                const Vec<T> old = load(space.v, c);
                const Vec<T> v = decay * old + (T(1 / std::sqrt(motion.masses[c / 3])) * thermal) * normal[c - start];
                add_to(space.x, c, Vec<T>(half * (old + v)));
                store(space.v, c, v);
            }
        }
    }

    void rigid_step(Space<T>& space, std::uint64_t step) const {
        const std::size_t n = 3 * n_atoms;
        constrain_velocities(motion, space.x, space.v);
        for (std::size_t c = 0; c < n; ++c) store(space.reference, c, load(space.x, c));
        drift(space, step);
        for (std::size_t c = 0; c < n; ++c) add_to(space.v, c, Vec<T>(-load(space.x, c) / T(motion.timestep)));
        constrain_positions(motion, space.x, space.reference);
        for (std::size_t c = 0; c < n; ++c) add_to(space.v, c, Vec<T>(load(space.x, c) / T(motion.timestep)));
    }
};

template <class T>
void run(const Tables<T>& tables, Space<T>& space, const Motion<T>& motion, std::size_t first, std::size_t n, T* x,
         T* v, double* energy, T* force) {
    const Middle<T> middle(motion, tables.n_atoms, first, n);
    const std::size_t width = 3 * tables.n_atoms;
    load_lanes(x, width, n, space.x);
    load_lanes(v, width, n, space.v);
    load_lanes(force, width, n, space.force);
    if (motion.n_constraints) {
        for (std::size_t c = 0; c < width; ++c) store(space.reference, c, load(space.x, c));
        constrain_positions(motion, space.x, space.reference);
        add_all(tables, space);
        add_umbrellas(motion, middle.walkers, space);
    }
    for (std::uint64_t step = 0; step < motion.n_steps; ++step) {
        if (motion.force_cap < 1e30) cap_forces(tables.n_atoms, T(motion.force_cap), space.force);
        middle.kick(space);
        if (motion.n_constraints) middle.rigid_step(space, step);
        else middle.drift(space, step);
        add_all(tables, space);
        add_umbrellas(motion, middle.walkers, space);
    }
    store_lanes(space.x, width, n, x);
    store_lanes(space.v, width, n, v);
    store_result(tables, space, n, energy, force);
}

}  // namespace gibbsian::GIBBSIAN_ISA
