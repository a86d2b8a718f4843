#include "run_on_cpu.hpp"

namespace example {

int run_parallel(const program_options& options) {
  return run_kind_on_cpu<mtp::head_kind::parallel>(options);
}

std::unique_ptr<saved_model> open_parallel(const checkpoint_choice& choice) {
  return open_kind_on_cpu<mtp::head_kind::parallel>(choice);
}

}  // namespace example
