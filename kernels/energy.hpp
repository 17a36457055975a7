// Energies and forces of one vector of conformations, and the way into and out of it.
#pragma once

#include <limits>

#include "bonded.hpp"
#include "pairs.hpp"

namespace gibbsian::GIBBSIAN_ISA {

// From (n, width) to `width` rows of lanes; lanes beyond n repeat the last conformation.
template <class T>
void load_lanes(const T* from, std::size_t width, std::size_t n, T* rows) {
    constexpr std::size_t lanes = kLanes<T>;
    for (std::size_t c = 0; c < width; ++c)
        for (std::size_t k = 0; k < lanes; ++k) rows[c * lanes + k] = from[(k < n ? k : n - 1) * width + c];
}

template <class T>
void store_lanes(const T* rows, std::size_t width, std::size_t n, T* to) {
    constexpr std::size_t lanes = kLanes<T>;
    for (std::size_t k = 0; k < n; ++k)
        for (std::size_t c = 0; c < width; ++c) to[k * width + c] = rows[c * lanes + k];
}

template <class T>
void set_zero(T* rows, std::size_t n) {
    for (std::size_t row = 0; row < n; ++row) store(rows, row, Vec<T>{});
}

// Energies and forces at space.x.
template <class T>
void add_all(const Tables<T>& tables, Space<T>& space) {
    set_zero(space.force, 3 * tables.n_atoms);
    set_zero(space.sums, tables.n_atoms);
    set_zero(space.lost, tables.n_atoms);
    set_zero(space.by_log, tables.n_atoms);
    for (int k = 0; k < kLanes<T>; ++k) space.energy[k] = 0;
    // Pairs first: many small forces would lose digits on top of the large ones of bonds.
    if (tables.pairs) add_nonbonded(tables, space);
    add_bonds(tables.bonds, space);
    add_angles(tables.angles, space);
    add_torsions(tables.torsions, space);
    add_impropers(tables.impropers, space);
    add_maps(tables.maps, space);
}

// A conformation whose energy or force is not finite gets force zero; no energy is NaN.
template <class T>
void store_result(const Tables<T>& tables, Space<T>& space, std::size_t n, double* energy, T* force) {
    const std::size_t width = 3 * tables.n_atoms;
    Vec<T> total{};
    for (std::size_t c = 0; c < width; ++c) total += absolute(load(space.force, c));
    store_lanes(space.force, width, n, force);
    for (std::size_t k = 0; k < n; ++k) {
        energy[k] = space.energy[k];
        if (std::isfinite(energy[k]) && std::isfinite(total[k])) continue;
        if (std::isnan(energy[k])) energy[k] = std::numeric_limits<double>::infinity();
        for (std::size_t c = 0; c < width; ++c) force[k * width + c] = 0;
    }
}

template <class T>
void evaluate(const Tables<T>& tables, Space<T>& space, const T* x, std::size_t n, double* energy, T* force) {
    load_lanes(x, 3 * tables.n_atoms, n, space.x);
    add_all(tables, space);
    store_result(tables, space, n, energy, force);
}

}  // namespace gibbsian::GIBBSIAN_ISA
