#include "run_on_cpu.hpp"

namespace example {

int run_independent(const program_options& options) {
  return run_kind_on_cpu<mtp::head_kind::independent>(options);
}

std::unique_ptr<saved_model> open_independent(const checkpoint_choice& choice) {
  return open_kind_on_cpu<mtp::head_kind::independent>(choice);
}

}  // namespace example
