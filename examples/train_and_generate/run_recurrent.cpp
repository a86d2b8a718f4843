#include "run.hpp"

namespace example {

int run_recurrent(const program_options& options) {
  return options.depth == 1 ? run<make_config(mtp::head_kind::recurrent, 1)>(options)
                            : run<make_config(mtp::head_kind::recurrent, 3)>(options);
}

}  // namespace example
