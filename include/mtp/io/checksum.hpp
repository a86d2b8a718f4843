// The checksum of files.
#pragma once

#include <bit>

#include "mtp/core/checksum.hpp"

namespace mtp::inline MTP_ABI::io {

static_assert(std::endian::native == std::endian::little,
              "mtp::io: a little-endian machine is required");

using mtp::to_hex;
using mtp::xxh64;

}  // namespace mtp::inline MTP_ABI::io
