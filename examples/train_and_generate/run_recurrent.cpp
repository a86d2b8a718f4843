#include "run_on_cpu.hpp"

namespace example {

int run_recurrent(const program_options& options) {
  return run_kind_on_cpu<mtp::head_kind::recurrent>(options);
}

std::unique_ptr<saved_model> open_recurrent(const checkpoint_choice& choice) {
  return open_kind_on_cpu<mtp::head_kind::recurrent>(choice);
}

}  // namespace example
