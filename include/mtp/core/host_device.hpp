// Functions that run on the host and, where a CUDA compiler reads them, on a device too.
#pragma once

#if defined(__CUDACC__)
#define MTP_HOST_DEVICE __host__ __device__
#else
#define MTP_HOST_DEVICE
#endif
