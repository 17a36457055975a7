// Python bindings of the compiled engine.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include "engine.hpp"

namespace nb = nanobind;

namespace {

using namespace gibbsian;

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <class T>
using Input = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T>
using Inputs = std::unordered_map<std::string, Input<T>>;

template <class T>
Columns<T> copied(const Inputs<T>& arrays) {
    Columns<T> columns;
    for (const auto& [name, array] : arrays) columns[name].assign(array.data(), array.data() + array.size());
    return columns;
}

template <class T>
void bind(nb::module_& m, const char* name) {
    nb::class_<Engine<T>>(m, name, "Energies, forces and Langevin dynamics of batches of conformations.")
        .def(
            "__init__",
            [](Engine<T>* self, std::size_t n_atoms, const Inputs<T>& reals, const Inputs<Index>& indices,
               const std::unordered_map<std::string, double>& numbers, const std::string& set) {
                new (self) Engine<T>(n_atoms, copied(reals), copied(indices), numbers, set);
            },
            nb::arg("n_atoms"), nb::arg("reals"), nb::arg("indices"), nb::arg("numbers"), nb::arg("instruction_set"))
        .def(
            "evaluate",
            [](Engine<T>& self, Input<T> x, Array<double> energy, Array<T> force, std::size_t threads) {
                const nb::gil_scoped_release release;
                self.evaluate(x.data(), x.shape(0), energy.data(), force.data(), threads);
            },
            nb::arg("x"), nb::arg("energy"), nb::arg("force"), nb::arg("threads"),
            "Write energies (n) and forces (n, n_atoms, 3) of x (n, n_atoms, 3).")
        .def(
            "run",
            [](Engine<T>& self, Array<T> x, Array<T> v, Array<double> energy, Array<T> force, Input<double> kt,
               Input<double> masses, double timestep, double friction, double force_cap, std::uint64_t n_steps,
               std::uint64_t seed, Input<Index> constrained, Input<double> lengths, Input<Index> biased,
               Input<double> centres, Input<double> strengths, std::size_t threads) {
                const Motion<T> motion{seed,
                                       n_steps,
                                       masses.data(),
                                       kt.data(),
                                       timestep,
                                       friction,
                                       force_cap,
                                       lengths.size(),
                                       constrained.data(),
                                       lengths.data(),
                                       biased.size() / 4,
                                       biased.data(),
                                       centres.data(),
                                       strengths.data()};
                const nb::gil_scoped_release release;
                self.run(motion, x.shape(0), x.data(), v.data(), energy.data(), force.data(), threads);
            },
            nb::arg("x"), nb::arg("v"), nb::arg("energy"), nb::arg("force"), nb::arg("kt"), nb::arg("masses"),
            nb::arg("timestep"), nb::arg("friction"), nb::arg("force_cap"), nb::arg("n_steps"), nb::arg("seed"),
            nb::arg("constrained"), nb::arg("lengths"), nb::arg("biased"), nb::arg("centres"), nb::arg("strengths"),
            nb::arg("threads"),
            "Advance all walkers in place by n_steps of the middle scheme.");
}

template <class T>
Splines<T> layer(const Input<T>& v, const Input<T>& p, const Input<T>& circular, double bound, double steepest,
                 bool inverse) {
    const std::size_t rows = v.shape(0), columns = v.shape(1);
    return {rows, columns, (p.shape(2) - 1) / 3, circular.data(), T(bound), T(steepest), inverse};
}

template <class T>
void bind_splines(nb::module_& m) {
    m.def(
        "couple",
        [](Input<T> v, Input<T> p, Input<T> circular, double bound, double steepest, bool inverse,
           const std::string& set, Array<T> image, Array<T> log_det) {
            const Splines<T> splines = layer<T>(v, p, circular, bound, steepest, inverse);
            const nb::gil_scoped_release release;
            find_kernels<T>(set).couple(splines, v.data(), p.data(), image.data(), log_det.data());
        },
        "Write images (n, c) and log-determinants (n) of v (n, c) with raw spline parameters p (n, c, 3 bins + 1).");
    m.def(
        "couple_back",
        [](Input<T> v, Input<T> p, Input<T> circular, double bound, double steepest, bool inverse,
           const std::string& set, Input<T> d_image, Input<T> d_log_det, Array<T> d_v, Array<T> d_p) {
            const Splines<T> splines = layer<T>(v, p, circular, bound, steepest, inverse);
            const nb::gil_scoped_release release;
            find_kernels<T>(set).couple_back(splines, v.data(), p.data(), d_image.data(), d_log_det.data(), d_v.data(),
                                             d_p.data());
        },
        "Write the gradients of v and p.");
}

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "Compiled kernels of gibbsian.";
    m.def("instruction_sets", &instruction_sets, "Instruction sets that run on this processor, the widest first.");
    bind<float>(m, "Engine32");
    bind<double>(m, "Engine64");
    bind_splines<float>(m);
    bind_splines<double>(m);
}
