#include "support/cuda_cases.hpp"
// The cases come first.
#include "mtp/core/tensor.hpp"
#include "ops/choose_tokens_test.hpp"

namespace mtp::test::choose_tokens {

namespace {

/// A thread for each token.
__global__ void __launch_bounds__(64) noise_kernel(double* noise, index_t count, gumbel_noise of) {
  const index_t i = static_cast<index_t>(blockIdx.x) * 64 + threadIdx.x;
  if (i < count) {
    noise[i] = of(i);
  }
}

}  // namespace

TEST_CASE("noise of a device is that of the formula, but for its logarithms") {
  constexpr index_t count = 300;
  cuda_context context;
  buffer<double, cuda> noise(count);
  const reference::rule_of_choice rule{.seed = 0x9123456789abcdef, .sequence = 77};
  for (const index_t position : {index_t{0}, index_t{1000}, index_t{1} << 34}) {
    cuda_detail::launch(context,
                        "noise",
                        dim3((count + 63) / 64),
                        dim3(64),
                        0,
                        noise_kernel,
                        noise.data(),
                        count,
                        gumbel_noise(seed{rule.seed}, rule.sequence, position));
    std::vector<double> actual(count), expected, bound;
    backend_traits<cuda>::download(context, actual.data(), noise.data(), count * sizeof(double));
    for (token_t v = 0; v < count; ++v) {
      expected.push_back(reference::gumbel(rule, position, v));
      bound.push_back(8 * 0x1p-52 * (1 + std::abs(expected.back())));
    }
    CHECK(within(actual, expected, bound));
  }
}

}  // namespace mtp::test::choose_tokens
