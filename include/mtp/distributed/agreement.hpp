// Ranks that were started with different things find out before they compute.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor_group.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// The entries as bytes: length and text of each name and value.
inline std::string packed_entries(const std::map<std::string, std::string>& entries) {
  std::string bytes;
  const auto append = [&](const std::string& text) {
    const std::uint64_t length = text.size();
    bytes.append(reinterpret_cast<const char*>(&length), sizeof length);
    bytes += text;
  };
  for (const auto& [name, value] : entries) {
    append(name);
    append(value);
  }
  return bytes;
}

/// What packed_entries packed.
inline std::map<std::string, std::string> unpacked_entries(std::string_view bytes) {
  const auto next = [&] {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    const std::string text(bytes.substr(sizeof length, length));
    bytes.remove_prefix(sizeof length + length);
    return text;
  };
  std::map<std::string, std::string> entries;
  while (!bytes.empty()) {
    const std::string name = next();
    entries[name] = next();
  }
  return entries;
}

/// How entries differ from those of rank 0: each name with both values.
inline std::string differences(const std::map<std::string, std::string>& first,
                               const std::map<std::string, std::string>& other,
                               int rank) {
  std::ostringstream text;
  const auto value_in = [](const std::map<std::string, std::string>& entries,
                           const std::string& name) {
    const auto found = entries.find(name);
    return found == entries.end() ? std::string("missing") : "\"" + found->second + "\"";
  };
  std::map<std::string, std::string> names = first;
  names.insert(other.begin(), other.end());
  for (const auto& [name, unused] : names) {
    const std::string here = value_in(first, name), there = value_in(other, name);
    if (here == there) continue;
    text << (text.tellp() > 0 ? "; " : "") << name << " is " << here << " on rank 0 and " << there
         << " on rank " << rank;
  }
  return text.str();
}

}  // namespace detail

namespace detail {

/// agree, of rank `rank` of R; gather(blocks) gathers R blocks of equal size.
template <class Gather>
void agree_among(int rank_here,
                 int R,
                 const Gather& gather,
                 const std::map<std::string, std::string>& entries) {
  const std::string own = packed_entries(entries);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(R));
  lengths[static_cast<std::size_t>(rank_here)] = static_cast<std::int64_t>(own.size());
  gather(std::span(lengths));

  index_t longest = 1;
  for (const std::int64_t each : lengths) longest = (std::max)(longest, static_cast<index_t>(each));
  std::vector<char> all(static_cast<std::size_t>(longest * R));  // [R, longest]
  std::memcpy(all.data() + longest * rank_here, own.data(), own.size());
  gather(std::span(all));

  const auto of = [&](int rank) {
    return std::string_view(all.data() + longest * rank,
                            static_cast<std::size_t>(lengths[static_cast<std::size_t>(rank)]));
  };
  for (int rank = 1; rank < R; ++rank) {
    if (of(rank) == of(0)) continue;
    fail("agree: rank ",
         rank,
         " of ",
         R,
         " was started with something else than rank 0: ",
         differences(unpacked_entries(of(0)), unpacked_entries(of(rank)), rank));
  }
}

}  // namespace detail

/// Returns if all ranks passed equal entries: name and value of everything that must not differ,
/// such as the configuration, the version of the program, options, and checksums of texts.
/// Otherwise throws mtp::error, on all ranks with the same message, which names the first rank that
/// differs from rank 0, and every entry that differs with both values.
template <host_communicator C>
void agree(C& group, const std::map<std::string, std::string>& entries) {
  const int R = group.size();
  const auto gather = [&](auto blocks) {
    group.all_gather(blocks, shards(static_cast<index_t>(blocks.size()), R));
  };
  detail::agree_among(group.rank(), R, gather, entries);
}

/// The same for ranks that compute one model together.
inline void agree(tensor_group& ranks, const std::map<std::string, std::string>& entries) {
  const auto gather = [&](auto blocks) {
    const auto bytes = static_cast<index_t>(blocks.size_bytes());
    ranks.all_gather(reinterpret_cast<std::byte*>(blocks.data()), bytes, bytes / ranks.size());
  };
  detail::agree_among(ranks.rank(), ranks.size(), gather, entries);
}

}  // namespace mtp::inline MTP_ABI
