#include "language_models.hpp"

namespace mtp::bench {

[[maybe_unused]] static const bool added =
    add_models<beyond_cache, weights_in_8_bits, head_kind::sequential>("beyond_cache", {128}, 48);

}  // namespace mtp::bench
