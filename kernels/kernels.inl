// The kernels of one instruction set; GIBBSIAN_ISA and GIBBSIAN_BYTES are defined by the file that includes this.
#include "dynamics.hpp"
#include "splines.hpp"

namespace gibbsian::GIBBSIAN_ISA {

template <class T>
Kernels<T> kernels() {
    return {kLanes<T>, &evaluate<T>, &run<T>, &couple<T>, &couple_back<T>};
}

template Kernels<float> kernels<float>();
template Kernels<double> kernels<double>();

}  // namespace gibbsian::GIBBSIAN_ISA
