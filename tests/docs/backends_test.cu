#include "support/cuda_cases.hpp"
// The cases come first.
#include "docs/backends_test.hpp"

namespace mtp::test::docs_backends_cases {

TEST_CASE("docs/backends.md has a cell for each operation that the CUDA backend offers") {
  mtp::test::backend_table::check_cases(mtp::test::cases{}, "cuda");
}

}  // namespace mtp::test::docs_backends_cases
