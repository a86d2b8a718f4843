#include "distributed/nccl_model_checks.cuh"

namespace mtp::test::distributed_nccl_model_cases {

TEST_CASE("sequential heads on 2 GPUs agree with 2 ranks of the CPU") {
  check_parts<double>();
}

}  // namespace mtp::test::distributed_nccl_model_cases
