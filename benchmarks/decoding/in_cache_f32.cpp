#include "language_models.hpp"

namespace mtp::bench {

[[maybe_unused]] static const bool added =
    add_all<in_cache, float>("in_cache", {128, 1024, 4096}, 64);

}  // namespace mtp::bench
