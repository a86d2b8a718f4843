#include "run.hpp"

namespace example {

int run_parallel(const program_options& options) {
  return options.depth == 1 ? run<make_config(mtp::head_kind::parallel, 1)>(options)
                            : run<make_config(mtp::head_kind::parallel, 3)>(options);
}

}  // namespace example
