#include "distributed/nccl_model_checks.cuh"

namespace mtp::test::distributed_nccl_bf16_cases {

TEST_CASE("independent heads in bf16 on 2 GPUs agree with 2 ranks of the CPU") {
  check_parts<bf16>();
}

}  // namespace mtp::test::distributed_nccl_bf16_cases
