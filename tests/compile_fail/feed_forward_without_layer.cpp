// expects: feed_forward_traits: this kind of feed-forward layer has no layer; include the header
// that specializes mtp::feed_forward_traits for it, or <mtp/model/layers/layer.hpp> for the
// library's own
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

inline constexpr feed_forward_kind feed_forward_unheard_of{.name = "unheard_of"};
#ifdef MTP_KO
constexpr model_config feed_forward_without_layer{
    .feed_forward = {.kind = feed_forward_unheard_of}};
#else
constexpr model_config feed_forward_without_layer{};
#endif
static_assert(language_model<feed_forward_without_layer, host>::layout.storage > 0);

}  // namespace mtp::test
