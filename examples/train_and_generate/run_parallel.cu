#include "run_on_cuda.cuh"

namespace example {

int run_parallel_on_cuda(const program_options& options) {
  return run_on_cuda<make_gpu_config(mtp::head_kind::parallel, 3)>(options);
}

}  // namespace example
