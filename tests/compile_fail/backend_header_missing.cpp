// expects: language_model: include the backend's header first, e.g. <mtp/backend/cpu.hpp>; one of
// your own must complete backend_traits
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

struct elsewhere;
#ifdef MTP_KO
using backend_header_missing = language_model<model_config{}, elsewhere>;
#else
using backend_header_missing = language_model<model_config{}, host>;
#endif
static_assert(backend_header_missing::layout.storage > 0);

}  // namespace mtp::test
