#include "run_on_cpu.hpp"

namespace example {

int run_shared_logit(const program_options& options) {
  return options.depth == 1 ? run_on_cpu<make_config(mtp::head_kind::shared_logit, 1)>(options)
                            : run_on_cpu<make_config(mtp::head_kind::shared_logit, 3)>(options);
}

}  // namespace example
