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

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "Compiled kernels of gibbsian.";
    m.def("instruction_sets", &instruction_sets, "Instruction sets that run on this processor, the widest first.");
    bind<float>(m, "Engine32");
    bind<double>(m, "Engine64");
}
