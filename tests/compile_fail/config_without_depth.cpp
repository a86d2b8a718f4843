// expects: model_config: a head kind other than none needs a depth of at least 1
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config config_without_depth{.prediction = {.kind = head_kind::recurrent}};
#else
constexpr model_config config_without_depth{
    .prediction = {.kind = head_kind::recurrent, .depth = 3}};
#endif

using config_without_depth_model = language_model<config_without_depth, host>;
static_assert(config_without_depth_model::layout.storage > 0);

}  // namespace mtp::test
