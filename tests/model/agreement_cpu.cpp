// The CPU's half of the comparison of backends.
#include "mtp/backend/cpu.hpp"
// The backend comes first.
#include "model/agreement.hpp"

namespace mtp::test {

model_trace trace_on_cpu(int number, int bytes) {
  cpu_context context({.threads = 2});
  switch (bytes) {
    case 8:
      return trace_case<cpu, double>(number, context);
    case 4:
      return trace_case<cpu, float>(number, context);
    default:
      return trace_case<cpu, bf16>(number, context);
  }
}

}  // namespace mtp::test
