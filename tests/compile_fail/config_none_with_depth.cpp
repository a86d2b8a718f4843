// expects: model_config: head_kind::none has depth 0
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config config_none_with_depth{.prediction = {.kind = head_kind::none, .depth = 2}};
#else
constexpr model_config config_none_with_depth{
    .prediction = {.kind = head_kind::parallel, .depth = 2}};
#endif

using config_none_with_depth_model = language_model<config_none_with_depth, host>;
static_assert(config_none_with_depth_model::layout.storage > 0);

}  // namespace mtp::test
