// The header of a file of hidden states: whose they are, and how many.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/checksum.hpp"

namespace mtp::inline MTP_ABI::io {

/// Rows of hidden states, and how they are written.
struct hidden_states_shape {
  index_t rows = 0;   ///< N
  index_t width = 0;  ///< C
  index_t block = 0;  ///< rows that are written at once
};

/// Checksums of what hidden states are computed from.
struct hidden_states_origin {
  std::uint64_t model = 0;          ///< of the parameters
  std::uint64_t tokens = 0;         ///< of the text
  std::uint64_t configuration = 0;  ///< of everything else that decides about them
};

namespace detail {

/// The first bytes of the file, as they stand there.
struct hidden_states_header {
  std::array<char, 16> mark;
  std::uint64_t version;
  hidden_states_shape shape;
  hidden_states_origin origin;
  std::uint64_t checksum;  // of the bytes in front of it

  static hidden_states_header make(const hidden_states_shape& shape,
                                   const hidden_states_origin& origin) {
    hidden_states_header made{
        {'m', 't', 'p', ' ', 'h', 'i', 'd', 'd', 'e', 'n', ' ', 's', 't', 'a', 't', 'e'},
        1,
        shape,
        origin,
        0};
    made.checksum = made.sum();
    return made;
  }

  std::uint64_t sum() const {
    xxh64 sum;
    sum.update(std::as_bytes(std::span(this, 1)).first(offsetof(hidden_states_header, checksum)));
    return sum.digest();
  }

  /// Throws mtp::error, with what differs, unless `found` is the same.
  void check_same(const hidden_states_header& found, const std::filesystem::path& path) const {
    const auto require = [&](bool holds, const auto&... parts) {
      check(holds, "hidden_states_file: '", path.string(), "' ", parts...);
    };
    const auto same = [&](const char* what, auto expected, auto got) {
      require(got == expected, "is of another ", what, ": expected ", expected, ", got ", got);
    };
    require(found.mark == mark, "is no file of hidden states");
    require(found.version == version, "has version ", found.version, ", expected ", version);
    require(found.checksum == found.sum(),
            "is damaged in its header; remove it to compute the hidden states anew");
    same("model (checksum of its parameters)", to_hex(origin.model), to_hex(found.origin.model));
    same("text (checksum of its tokens)", to_hex(origin.tokens), to_hex(found.origin.tokens));
    same("configuration (checksum)",
         to_hex(origin.configuration),
         to_hex(found.origin.configuration));
    same("number of rows", shape.rows, found.shape.rows);
    same("width", shape.width, found.shape.width);
    same("number of rows in a block", shape.block, found.shape.block);
  }
};
static_assert(sizeof(hidden_states_header) == 80, "hidden_states_header: the file has no padding");

/// What the table says of a block: zeros until it is there.
struct hidden_states_entry {
  std::uint64_t data = 0;  // checksum of the block
  std::uint64_t seal = 0;  // of that, the header and the number of the block

  static hidden_states_entry of(std::span<const std::byte> block,
                                index_t number,
                                const hidden_states_header& header) {
    xxh64 data;
    data.update(block);
    const std::array<std::uint64_t, 3> parts{
        data.digest(), header.checksum, static_cast<std::uint64_t>(number)};
    xxh64 seal;
    seal.update(std::as_bytes(std::span(parts)));
    return {parts[0], seal.digest()};
  }
  bool is_empty() const { return data == 0 && seal == 0; }
  friend bool operator==(const hidden_states_entry&, const hidden_states_entry&) = default;
};

}  // namespace detail

}  // namespace mtp::inline MTP_ABI::io
