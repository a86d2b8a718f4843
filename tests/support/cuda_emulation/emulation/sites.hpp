// The places in the source where kernels wait. A test turns one of them off to prove that it would
// notice if it were missing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulation/sanitizers.hpp"

namespace mtp::emulation {

enum class site_kind : unsigned char { block_barrier, warp_barrier, copy_wait };

/// A place where a kernel waits, and how many threads came by.
struct site {
  site_kind kind;
  std::string file;
  int line;
  std::uint64_t visits;
};

namespace detail {

struct site_record {
  const char* file;
  int line;
  site_kind kind;
  bool disabled;
  std::uint64_t visits;
};

/// Files are told apart by name, but found by the address of the name, of which every translation
/// unit may have its own. Plain arrays, because kernels come here: see MTP_EMULATION_INTERNAL.
struct site_table {
  static constexpr unsigned max_records = 1024, slots = 4096;
  struct alias {
    const char* file;
    int line;
    site_kind kind;
    unsigned short record;
  };

  site_record records[max_records];
  alias aliases[slots];
  unsigned count, alias_count;
};
inline site_table all_sites;

MTP_EMULATION_INTERNAL inline bool same_text(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) {
    ++a;
    ++b;
  }
  return *a == *b;
}

MTP_EMULATION_INTERNAL inline unsigned short record_of(site_kind kind, const char* file, int line) {
  site_table& table = all_sites;
  for (unsigned i = 0; i < table.count; ++i) {
    const site_record& known = table.records[i];
    if (known.line == line && known.kind == kind && same_text(known.file, file)) {
      return static_cast<unsigned short>(i);
    }
  }
  if (table.count == site_table::max_records) {
    __builtin_trap();  // raise max_records
  }
  table.records[table.count] = {file, line, kind, false, 0};
  return static_cast<unsigned short>(table.count++);
}

/// Counts a visit. Returns whether the place has been turned off.
MTP_EMULATION_INTERNAL inline bool pass_site(site_kind kind, const char* file, int line) {
  site_table& table = all_sites;
  auto slot = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(file) +
                                    static_cast<unsigned>(line) * 2654435761u) %
              site_table::slots;
  while (true) {
    site_table::alias& entry = table.aliases[slot];
    if (entry.file == file && entry.line == line && entry.kind == kind) {
      site_record& record = table.records[entry.record];
      ++record.visits;
      return record.disabled;
    }
    if (entry.file == nullptr) {
      if (++table.alias_count == site_table::slots) {
        __builtin_trap();  // raise slots
      }
      entry = {file, line, kind, record_of(kind, file, line)};
    } else {
      slot = (slot + 1) % site_table::slots;
    }
  }
}

}  // namespace detail

/// The places met since the last forget_sites(), in the order of file and line.
inline std::vector<site> sites() {
  std::vector<site> met;
  for (unsigned i = 0; i < detail::all_sites.count; ++i) {
    const detail::site_record& record = detail::all_sites.records[i];
    if (record.visits > 0) {
      met.push_back({record.kind, record.file, record.line, record.visits});
    }
  }
  std::sort(met.begin(), met.end(), [](const site& a, const site& b) {
    return a.file != b.file ? a.file < b.file : a.line < b.line;
  });
  return met;
}

inline void forget_sites() {
  for (unsigned i = 0; i < detail::all_sites.count; ++i) {
    detail::all_sites.records[i].visits = 0;
  }
}

/// While this object lives, threads do not wait at `where`, which is one of sites(): a barrier is
/// left out, and a wait for copies waits for none.
class disabled_site {
 public:
  explicit disabled_site(const site& where) {
    for (unsigned i = 0; i < detail::all_sites.count && record_ == nullptr; ++i) {
      detail::site_record& known = detail::all_sites.records[i];
      if (known.line == where.line && known.kind == where.kind && known.file == where.file) {
        record_ = &known;
      }
    }
    if (record_ == nullptr) {
      throw std::invalid_argument("disabled_site: no thread ever came to " + where.file + ':' +
                                  std::to_string(where.line));
    }
    record_->disabled = true;
  }
  ~disabled_site() { record_->disabled = false; }
  disabled_site(const disabled_site&) = delete;
  disabled_site& operator=(const disabled_site&) = delete;

 private:
  detail::site_record* record_ = nullptr;
};

}  // namespace mtp::emulation
