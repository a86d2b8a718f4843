// Ranks that were started with different things, or cannot start, find out before they compute.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
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

/// The text of every rank, on all of them. The one here is `rank_here` of R; gather(blocks) gathers
/// R blocks of equal size.
template <class Gather>
std::vector<std::string> gathered_texts_by(int rank_here,
                                           int R,
                                           const Gather& gather,
                                           const std::string& own) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(R));
  lengths[static_cast<std::size_t>(rank_here)] = static_cast<std::int64_t>(own.size());
  gather(std::span(lengths));

  index_t longest = 1;
  for (const std::int64_t each : lengths) longest = (std::max)(longest, static_cast<index_t>(each));
  std::vector<char> all(static_cast<std::size_t>(longest * R));  // [R, longest]
  std::memcpy(all.data() + longest * rank_here, own.data(), own.size());
  gather(std::span(all));

  std::vector<std::string> texts;
  for (int rank = 0; rank < R; ++rank) {
    texts.emplace_back(all.data() + longest * rank,
                       static_cast<std::size_t>(lengths[static_cast<std::size_t>(rank)]));
  }
  return texts;
}

/// The same; collective.
template <host_communicator C>
std::vector<std::string> gathered_texts(C& group, const std::string& own) {
  const auto gather = [&](auto blocks) {
    group.all_gather(blocks, shards(static_cast<index_t>(blocks.size()), group.size()));
  };
  return gathered_texts_by(group.rank(), group.size(), gather, own);
}

/// What the exception that is being handled says.
inline std::string handled_message() {
  try {
    throw;
  } catch (const std::exception& problem) {
    const std::string said = problem.what();
    return said.empty() ? "failed" : said;
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

}  // namespace detail

/// Returns if `problem` is empty on all ranks, which all call it. Otherwise throws mtp::error, on
/// all ranks with the same message: that of the problem if all have the same, or else "rank 1 of 3:
/// problem" for the first rank that has one.
template <host_communicator C>
void all_succeeded(C& group, const std::string& problem) {
  if (group.size() == 1) {
    check(problem.empty(), problem);
    return;
  }
  const std::vector<std::string> problems = detail::gathered_texts(group, problem);
  const auto first = std::find_if(
      problems.begin(), problems.end(), [](const std::string& text) { return !text.empty(); });
  if (first == problems.end()) return;
  const auto is_the_same = [&](const std::string& text) { return text == *first; };
  check(!std::all_of(problems.begin(), problems.end(), is_the_same), *first);
  fail("rank ", first - problems.begin(), " of ", group.size(), ": ", *first);
}

/// Calls work() on every rank, and returns what it returns. If it throws on one of them, all throw,
/// as all_succeeded does; nobody waits for a rank that could not read its text, or had no memory.
/// The work makes no calls of the group. A process alone throws what the work throws.
///
///     const auto text = mtp::together(group, [&] { return read(path); });
template <host_communicator C, class Work>
auto together(C& group, const Work& work) {
  if (group.size() == 1) return work();
  using result_type = decltype(work());
  std::string problem;
  if constexpr (std::is_void_v<result_type>) {
    try {
      work();
    } catch (...) {
      problem = detail::handled_message();
    }
    all_succeeded(group, problem);
  } else {
    std::optional<result_type> result;
    try {
      result.emplace(work());
    } catch (...) {
      problem = detail::handled_message();
    }
    all_succeeded(group, problem);
    return std::move(*result);
  }
}

namespace detail {

/// The start of what all ranks make at the same time: either all have it, or all throw. A
/// constructor calls `succeeded` at its end, and `failed` in the handler of a function-try-block.
template <class Communicator>
class joint_start {
 public:
  explicit joint_start(Communicator& group) : group_(&group) {}

  /// This rank has all that it needs. Throws if another has not.
  void succeeded() {
    if constexpr (host_communicator<Communicator>) {
      has_told_ = true;
      if (group_->size() > 1) all_succeeded(*group_, "");
    }
  }
  /// Throws what all ranks throw, or returns if they know that the one here has failed.
  void failed() {
    if constexpr (host_communicator<Communicator>) {
      if (has_told_ || group_->size() == 1) return;
      has_told_ = true;
      all_succeeded(*group_, handled_message());
    }
  }

 private:
  Communicator* group_;
  bool has_told_ = false;
};

/// Throws, with the same message on all ranks, if the entries that they passed are not equal.
inline void check_agreement(const std::vector<std::string>& all) {
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    fail(
        "agree: rank ",
        rank,
        " of ",
        all.size(),
        " was started with something else than rank 0: ",
        differences(unpacked_entries(all[0]), unpacked_entries(all[rank]), static_cast<int>(rank)));
  }
}

}  // namespace detail

/// Returns if all ranks passed equal entries: name and value of everything that must not differ,
/// such as the configuration, the version of the program, options, and checksums of texts.
/// Otherwise throws mtp::error, on all ranks with the same message, which names the first rank that
/// differs from rank 0, and every entry that differs with both values.
template <host_communicator C>
void agree(C& group, const std::map<std::string, std::string>& entries) {
  detail::check_agreement(detail::gathered_texts(group, detail::packed_entries(entries)));
}

/// The same for ranks that compute one model together.
inline void agree(tensor_group& ranks, const std::map<std::string, std::string>& entries) {
  const auto gather = [&](auto blocks) {
    const auto bytes = static_cast<index_t>(blocks.size_bytes());
    ranks.all_gather(reinterpret_cast<std::byte*>(blocks.data()), bytes, bytes / ranks.size());
  };
  detail::check_agreement(detail::gathered_texts_by(
      ranks.rank(), ranks.size(), gather, detail::packed_entries(entries)));
}

}  // namespace mtp::inline MTP_ABI
