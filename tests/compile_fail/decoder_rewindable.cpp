// expects: decoder: the attention layer takes back fewer positions than verifying drafts does: its
// rewindable must be at least row_limits::taken_back in <mtp/model/row_pass.hpp>
#include "compile_fail/backends.hpp"
#include "mtp/decode/decoder.hpp"

namespace mtp::test {

inline constexpr attention_kind decoder_rewindable_kind{.name = "decoder_rewindable"};
template <model_config Config, class Backend, scalar S>
struct decoder_rewindable_layer : grouped_query_attention<Config, Backend, S> {
#ifdef MTP_KO
  static constexpr index_t rewindable = row_limits<Config, Backend>::taken_back - 1;
#endif
};

}  // namespace mtp::test

template <>
struct mtp::attention_traits<mtp::test::decoder_rewindable_kind> {
  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using layer = mtp::test::decoder_rewindable_layer<Config, Backend, S>;
};

namespace mtp::test {

constexpr model_config decoder_rewindable{
    .attention = {.kind = decoder_rewindable_kind},
    .prediction = {.kind = head_kind::sequential, .depth = 2}};

index_t rows_of_a_decoder() {
  return decoder<decoder_rewindable, host>::max_step_rows;
}

}  // namespace mtp::test
