// CUDA for the host: kernels and the calls of the runtime that a library needs, executed by one
// thread of the CPU. It stands in front of CUDA's own header on the include path of tests.
#pragma once

#define MTP_CUDA_EMULATION 1

#include "emulation/control.hpp"
#include "emulation/cuda_device.hpp"
#include "emulation/cuda_launch.hpp"
#include "emulation/cuda_memory.hpp"
#include "emulation/cuda_streams.hpp"
#include "emulation/cuda_types.hpp"
#include "emulation/device_atomics.hpp"
#include "emulation/device_functions.hpp"
#include "emulation/device_math.hpp"
#include "emulation/device_names.hpp"
#include "emulation/fault.hpp"
#include "emulation/vector_types.hpp"
