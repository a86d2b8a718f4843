// expects: decoder: a verification has depth + 1 rows, and the backend does not give so many rows
// the bits of single ones (backend_traits::invariant_rows)
#include "compile_fail/backends.hpp"
#include "mtp/decode/decoder.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr int decoder_depth = 4;
#else
constexpr int decoder_depth = 3;
#endif
constexpr model_config verified{
    .prediction = {.kind = head_kind::sequential, .depth = decoder_depth}};

index_t rows_of_a_verification() {
  return decoder<verified, device>::max_logit_rows;
}

}  // namespace mtp::test
