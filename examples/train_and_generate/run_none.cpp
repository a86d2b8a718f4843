#include "run_on_cpu.hpp"

namespace example {

int run_none(const program_options& options) {
  return run_on_cpu<make_config(mtp::head_kind::none, 0)>(options);
}

}  // namespace example
