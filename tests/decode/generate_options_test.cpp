#include "mtp/decode/generate_options.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace mtp::test::decode_generate_options_cases {

namespace {

using options_type = generate_options<float, host_memory>;

std::string refusal(const std::vector<token_t>& prompt,
                    const options_type& options,
                    const tree_refusals& refusals = {}) {
  try {
    mtp::detail::check_generation(std::span<const token_t>(prompt), options, 10, 3, 2, refusals);
    return {};
  } catch (const error& problem) {
    return problem.what();
  }
}

}  // namespace

TEST_CASE("a prompt and its options are refused with what was expected") {
  CHECK(refusal({0, 9, 1}, {}).empty());
  CHECK(refusal({}, {}) == "generate: the prompt is empty");
  CHECK(refusal({1, 2, 3, 4}, {}) ==
        "generate: a prompt of 4 tokens exceeds max_position_embeddings 3");
  CHECK(refusal({1, 10}, {}) == "generate: token 10 at position 1 does not lie in [0, 10)");
  CHECK(refusal({1, -1}, {}) == "generate: token -1 at position 1 does not lie in [0, 10)");
  options_type options;
  options.max_new_tokens = -1;
  CHECK(refusal({1}, options) == "generate: max_new_tokens must not be negative, got -1");
  options.max_new_tokens = 2;
  options.min_new_tokens = 3;
  CHECK(refusal({1}, options) == "generate: expected min_new_tokens in [0, 2], got 3");
  options.min_new_tokens = 2;
  options.stop_tokens = {10};
  CHECK(refusal({1}, options) == "generate: stop token 10 at position 0 does not lie in [0, 10)");
  options.stop_tokens = {9};
  CHECK(refusal({1}, options).empty());
  options.best_tokens = 21;
  CHECK(refusal({1}, options) == "generate: expected best_tokens in [0, 20], got 21");
  options.best_tokens = 20;
  CHECK(refusal({1}, options).empty());
  options.num_draft_tokens = 3;
  CHECK(refusal({1}, options) ==
        "generate: expected num_draft_tokens in [0, 2], or -1 for all, got 3");
  options.num_draft_tokens = 2;
  CHECK(refusal({1}, options).empty());
  options.sampling.top_p = 0;
  CHECK(!refusal({1}, options).empty());
}

}  // namespace mtp::test::decode_generate_options_cases
