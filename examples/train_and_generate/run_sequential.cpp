#include "run_on_cpu.hpp"

namespace example {

int run_sequential(const program_options& options) {
  return run_kind_on_cpu<mtp::head_kind::sequential>(options);
}

std::unique_ptr<saved_model> open_sequential(const checkpoint_choice& choice) {
  return open_kind_on_cpu<mtp::head_kind::sequential>(choice);
}

}  // namespace example
