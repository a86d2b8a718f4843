// The program for one model on the CPU.
#pragma once

#include <string>

#include "mtp/backend/cpu.hpp"
#include "run.hpp"

namespace example {

template <mtp::model_config Config>
int run_on_cpu(const program_options& options) {
  mtp::context<mtp::cpu> context({.threads = options.threads});
  const auto threads = context.threads();
  return run<Config, mtp::cpu, float>(
      options, context, std::to_string(threads) + (threads == 1 ? " thread" : " threads"));
}

}  // namespace example
