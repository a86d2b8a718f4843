// expects: language_model: the head that head_traits names lacks something of what prediction_head
// in <mtp/model/heads/head.hpp> asks for
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

inline constexpr head_kind head_without_run_kind{.name = "head_without_run", .drafts = false};
template <model_config Config, class Backend, scalar S>
struct head_without_run_head : none_head<Config, Backend, S> {
#ifdef MTP_KO
  static void run();  // hides the head's
#endif
};

}  // namespace mtp::test

template <>
struct mtp::head_traits<mtp::test::head_without_run_kind> {
  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using head = mtp::test::head_without_run_head<Config, Backend, S>;
};

namespace mtp::test {

constexpr model_config head_without_run{.prediction = {.kind = head_without_run_kind, .depth = 1}};
static_assert(language_model<head_without_run, host>::layout.storage > 0);

}  // namespace mtp::test
