// expects: model_config: depth must not be negative
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config config_negative_depth{
    .prediction = {.kind = head_kind::sequential, .depth = -1}};
#else
constexpr model_config config_negative_depth{
    .prediction = {.kind = head_kind::sequential, .depth = 1}};
#endif

using config_negative_depth_model = language_model<config_negative_depth, host>;
static_assert(config_negative_depth_model::layout.storage > 0);

}  // namespace mtp::test
