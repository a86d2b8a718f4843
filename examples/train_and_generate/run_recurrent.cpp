#include "run_on_cpu.hpp"

namespace example {

int run_recurrent(const program_options& options) {
  return options.depth == 1 ? run_on_cpu<make_config(mtp::head_kind::recurrent, 1)>(options)
                            : run_on_cpu<make_config(mtp::head_kind::recurrent, 3)>(options);
}

}  // namespace example
