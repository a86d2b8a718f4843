// expects: attention_traits: this kind of attention has no layer; include the header that
// specializes mtp::attention_traits for it, or <mtp/model/layers/layer.hpp> for the library's own
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

inline constexpr attention_kind attention_unheard_of{.name = "unheard_of"};
#ifdef MTP_KO
constexpr model_config attention_without_layer{.attention = {.kind = attention_unheard_of}};
#else
constexpr model_config attention_without_layer{};
#endif
static_assert(language_model<attention_without_layer, host>::layout.storage > 0);

}  // namespace mtp::test
