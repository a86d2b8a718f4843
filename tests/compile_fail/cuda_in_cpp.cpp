// expects: mtp/backend/cuda.cuh: this header holds device code; compile the file that includes it
// with nvcc, as CUDA

#ifdef MTP_KO
#include "mtp/backend/cuda.cuh"
#else
#include "mtp/backend/cpu.hpp"
#endif

static_assert(mtp::backend<mtp::cpu>);
