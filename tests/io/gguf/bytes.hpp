// GGUF files out of parts, right and wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace mtp::testing {

/// The bytes of a number.
template <class Number>
std::string bytes_of_number(Number value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// A text of a GGUF file: its length, then itself.
inline std::string gguf_text(std::string_view text) {
  return bytes_of_number<std::uint64_t>(text.size()).append(text);
}

/// A value of the metadata: key, number of the type, bytes of the value.
inline std::string gguf_entry(std::string_view key, std::uint32_t type, const std::string& value) {
  return gguf_text(key) + bytes_of_number(type) + value;
}

/// The value of an array.
inline std::string gguf_array(std::uint32_t type, std::uint64_t count, const std::string& values) {
  return bytes_of_number(type) + bytes_of_number(count) + values;
}

/// The description of a tensor; sizes as the file has them, the fastest first.
inline std::string gguf_description(std::string_view name,
                                    const std::vector<std::uint64_t>& sizes,
                                    std::uint32_t type,
                                    std::uint64_t offset) {
  std::string bytes = gguf_text(name) + bytes_of_number(static_cast<std::uint32_t>(sizes.size()));
  for (const std::uint64_t size : sizes) bytes += bytes_of_number(size);
  return bytes + bytes_of_number(type) + bytes_of_number(offset);
}

/// A file, whose counts are those of its parts unless a test changes them.
struct gguf_parts {
  std::uint32_t version = 3;
  std::vector<std::string> entries{};
  std::vector<std::string> tensors{};
  std::string data{};
  std::size_t alignment = 32;
  std::uint64_t more_entries = 0;  // that the header claims
  std::uint64_t more_tensors = 0;

  std::string bytes() const {
    std::string all = "GGUF" + bytes_of_number(version) +
                      bytes_of_number<std::uint64_t>(tensors.size() + more_tensors) +
                      bytes_of_number<std::uint64_t>(entries.size() + more_entries);
    for (const std::string& each : entries) all += each;
    for (const std::string& each : tensors) all += each;
    all.append((alignment - all.size() % alignment) % alignment, '\0');
    return all + data;
  }
};

}  // namespace mtp::testing
