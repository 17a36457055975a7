// What the kernels read and write: plain arrays, shared by all instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gibbsian {

using Index = std::int32_t;

// Bonded terms: `size` rows of atom indices and of coefficients.
template <class T>
struct Terms {
    std::size_t size = 0;
    const Index* atoms = nullptr;
    const T* values = nullptr;
};

// Torsions P(cos phi) + sin(phi) Q(cos phi): per row degree + 1 coefficients of P, then `odd` ones of Q.
template <class T>
struct Torsions {
    Terms<T> terms;
    int even = 0;
    int odd = 0;
};

// Bicubic maps over two torsions: rows of eight atoms, of the map's first patch and of its size.
template <class T>
struct Maps {
    Terms<T> terms;
    const Index* first = nullptr;
    const Index* size = nullptr;
};

// Pairs i < j, row by row. Energy charge (1/r + field r^2 - shift) + a/r^12 - b/r^6 up to the cutoff.
template <class T>
struct Pair {
    T charge, a, b;
    T born;        // minus Coulomb constant times charges times (1/solute - 1/solvent dielectric)
    T near2, mid2; // squared distances below which the screening integrals need the general and the long formula
};

template <class T>
struct Cut {
    T cutoff2, field, shift;
};

template <class T>
struct Neck {
    T height_ij, distance_ij, height_ji, distance_ji, reach;
};

// Generalized Born solvent.
template <class T>
struct BornAtom {
    T offset_radius, inverse_offset_radius, inverse_radius, scaled;
    T alpha, beta, gamma;  // of the rescaling tanh(alpha psi - beta psi^2 + gamma psi^3)
    T solute, solvent;     // -q^2/2 times the Coulomb constant over each dielectric constant
    T surface;
};

template <class T>
struct Born {
    const BornAtom<T>* atoms = nullptr;  // null: no solvent
    const Neck<T>* neck = nullptr;
    bool rescaled = false;               // false: HCT, without tanh
    bool engulfed_term = false;
    T kappa = 0;
    T salt_ratio = 0;                    // born = charges (1 - salt_ratio), salt_ratio = solute/solvent dielectric
    T cutoff = 0;                        // 0: none
};

template <class T>
struct Tables {
    std::size_t n_atoms = 0;
    std::size_t n_pairs = 0;
    bool keep_pairs = false;             // whether pair intermediates fit the cache
    T shortest2 = 0;
    Terms<T> bonds, angles, impropers;
    Torsions<T> torsions;
    Maps<T> maps;
    const Pair<T>* pairs = nullptr;
    const Cut<T>* cuts = nullptr;        // null: no pair is cut
    Born<T> born;
};

// Scratch memory of one thread, lanes innermost, aligned to 64 bytes.
template <class T>
struct Space {
    T *x, *v, *force, *reference;        // 3 n_atoms rows
    T *sums, *lost;                      // n_atoms rows: screening sums, and what rounding took from them
    T *radii, *inverse, *by_log, *radii_slope;  // n_atoms rows
    T* kept;                             // four rows per pair
    double* energy;                      // one row
};

// One stretch of Langevin dynamics (middle scheme); see dynamics.hpp.
template <class T>
struct Motion {
    std::uint64_t seed;
    std::uint64_t n_steps;
    const double* masses;                // (n_atoms)
    const double* kt;                    // (walkers)
    double timestep, friction, force_cap;
    std::size_t n_constraints;           // rigid bonds: pairs of atoms and lengths
    const Index* constrained;
    const double* lengths;
    std::size_t n_umbrellas;             // harmonic biases on torsions: four atoms; centres and k of each walker
    const Index* biased;
    const double* centres;               // (walkers, n_umbrellas)
    const double* strengths;
};

// A layer of spline couplings on variables (rows, columns), each with 3 bins + 1 raw parameters; see splines.hpp.
template <class T>
struct Splines {
    std::size_t rows, columns, bins;
    const T* circular;                   // (columns): not zero for variables on the circle
    T bound, steepest;                   // half the domain on the line, log of the largest slope
    bool inverse;
};

// The kernels of one instruction set.
template <class T>
struct Kernels {
    std::size_t lanes;
    // Energies (n) and forces (n, n_atoms, 3) of n <= lanes conformations (n, n_atoms, 3).
    void (*evaluate)(const Tables<T>&, Space<T>&, const T* x, std::size_t n, double* energy, T* force);
    // Advances walkers first..first + n - 1; energy and force are read and written.
    void (*run)(const Tables<T>&, Space<T>&, const Motion<T>&, std::size_t first, std::size_t n, T* x, T* v,
                double* energy, T* force);
    // Images (rows, columns) and log-determinants (rows) of variables v with parameters p, and the gradients.
    void (*couple)(const Splines<T>&, const T* v, const T* p, T* image, T* log_det);
    void (*couple_back)(const Splines<T>&, const T* v, const T* p, const T* d_image, const T* d_log_det, T* d_v, T* d_p);
};

}  // namespace gibbsian
