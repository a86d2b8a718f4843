// expects: block: the attention layer lacks something of what attention_layer in
// <mtp/model/layers/layer.hpp> asks for
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

inline constexpr attention_kind attention_without_decode_kind{.name = "without_decode"};
template <model_config Config, class Backend, scalar S>
struct attention_without_decode_layer : grouped_query_attention<Config, Backend, S> {
#ifdef MTP_KO
  static void decode();  // hides the layer's
#endif
};

}  // namespace mtp::test

template <>
struct mtp::attention_traits<mtp::test::attention_without_decode_kind> {
  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using layer = mtp::test::attention_without_decode_layer<Config, Backend, S>;
};

namespace mtp::test {

constexpr model_config attention_without_decode{
    .attention = {.kind = attention_without_decode_kind}};
static_assert(language_model<attention_without_decode, host>::layout.storage > 0);

}  // namespace mtp::test
