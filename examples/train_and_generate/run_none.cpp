#include "run_on_cpu.hpp"

namespace example {

int run_none(const program_options& options) {
  return run_on_cpu<make_config(mtp::head_kind::none, 0)>(options);
}

std::unique_ptr<saved_model> open_none(const checkpoint_choice& choice) {
  return open_on_cpu<make_config(mtp::head_kind::none, 0)>(choice);
}

}  // namespace example
