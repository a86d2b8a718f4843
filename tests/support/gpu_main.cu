// The main function of test executables that need a GPU. Without one it says so and ends with
// status 77.
#include <cuda_runtime.h>

#include <cstdio>

#include "support/run_tests.hpp"

int main(int argc, char** argv) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    std::printf("skipped: no CUDA device (%s)\n", cudaGetErrorString(status));
    return 77;
  }
  return mtp::test::run_tests(argc, argv);
}
