// The CPU's half of nccl_model_test.cu.
#include "mtp/backend/cpu.hpp"
// The backend comes first.
#include "distributed/nccl_model.hpp"
#include "support/tensor_ranks.hpp"

namespace mtp::test {

template <>
std::vector<model_trace> trace_parts_on_cpu<double>() {
  return from_ranks<model_trace>(2, [](cpu_context& context, int) {
    return trace<config_of_parts<double>(), cpu, double>(context);
  });
}

}  // namespace mtp::test
