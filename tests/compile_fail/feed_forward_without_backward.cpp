// expects: block: the feed-forward layer lacks something of what feed_forward_layer in
// <mtp/model/layers/layer.hpp> asks for
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

inline constexpr feed_forward_kind feed_forward_without_backward_kind{.name = "without_backward"};
template <model_config Config, class Backend, scalar S>
struct feed_forward_without_backward_layer : swiglu_layer<Config, Backend, S> {
#ifdef MTP_KO
  static void backward();  // hides the layer's
#endif
};

}  // namespace mtp::test

template <>
struct mtp::feed_forward_traits<mtp::test::feed_forward_without_backward_kind> {
  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using layer = mtp::test::feed_forward_without_backward_layer<Config, Backend, S>;
};

namespace mtp::test {

constexpr model_config feed_forward_without_backward{
    .feed_forward = {.kind = feed_forward_without_backward_kind}};
static_assert(language_model<feed_forward_without_backward, host>::layout.storage > 0);

}  // namespace mtp::test
