#include "language_models.hpp"

namespace mtp::bench {

[[maybe_unused]] static const bool added =
    add_all<beyond_cache, bf16>("beyond_cache", {128, 1024, 4096}, 48);

}  // namespace mtp::bench
