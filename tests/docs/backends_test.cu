#include "support/cuda_cases.hpp"
// The cases come first.
#include "docs/backends_test.hpp"

namespace mtp::test::docs_backends_cases {

TEST_CASE("docs/backends.md has a cell for each operation that the CUDA backend offers") {
  using elements = std::
      tuple<mtp::test::on<cuda, float>, mtp::test::on<cuda, double>, mtp::test::on<cuda, bf16>>;
  mtp::test::backend_table::check_cases(elements{}, "cuda");
}

}  // namespace mtp::test::docs_backends_cases
