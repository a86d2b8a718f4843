#include "run_on_cpu.hpp"

namespace example {

int run_shared_logit(const program_options& options) {
  return run_kind_on_cpu<mtp::head_kind::shared_logit>(options);
}

std::unique_ptr<saved_model> open_shared_logit(const checkpoint_choice& choice) {
  return open_kind_on_cpu<mtp::head_kind::shared_logit>(choice);
}

}  // namespace example
