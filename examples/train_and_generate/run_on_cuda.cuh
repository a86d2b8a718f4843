// The program for one model on a GPU.
#pragma once

#include <string>

#include "mtp/backend/cuda.cuh"
#include "run.hpp"

namespace example {

template <mtp::model_config Config>
int run_on_cuda(const program_options& options) {
  mtp::context<mtp::cuda> context;
  mtp::alone group;
  return run<Config, mtp::cuda, mtp::bf16>(
      options, context, context.device_name() + ", bf16", group);
}

}  // namespace example
