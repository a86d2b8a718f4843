// expects: language_model: include the backend's header first, e.g. <mtp/backend/cpu.hpp>; one of
// your own must complete backend_traits
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

struct own {};
template <class Backend>
struct own_traits : declared_traits<Backend, true> {
#ifdef MTP_KO
  static void synchronize();
#else
  static void synchronize(declared_context<Backend>&);
#endif
};

}  // namespace mtp::test

template <>
struct mtp::backend_traits<mtp::test::own> : mtp::test::own_traits<mtp::test::own> {};

namespace mtp::test {

using backend_incomplete = language_model<model_config{}, own>;
static_assert(backend_incomplete::layout.storage > 0);

}  // namespace mtp::test
