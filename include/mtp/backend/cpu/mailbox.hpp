// What decoding needs of a backend besides operations, where the host itself computes.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include "mtp/backend/cpu/context.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// A few slots of `bytes` bytes each.
class mailbox {
 public:
  mailbox(cpu_context&, std::size_t bytes, std::size_t slots)
      : bytes_(bytes), memory_(bytes * slots) {}

  void post(cpu_context&, std::size_t slot, const void* from) {
    std::memcpy(memory_.data() + slot * bytes_, from, bytes_);
  }
  const std::byte* wait(std::size_t slot) const { return memory_.data() + slot * bytes_; }

 private:
  std::size_t bytes_;
  std::vector<std::byte> memory_;
};

/// Giving operations costs nothing here, so they are given anew each time.
struct recording {
  template <class Function>
  void replay(cpu_context&, const Function& function) {
    function();
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
