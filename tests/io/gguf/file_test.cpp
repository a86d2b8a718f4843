#include "mtp/io/gguf/file.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <doctest/doctest.h>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "io/gguf/bytes.hpp"
#include "io/scratch.hpp"
#include "mtp/io/safetensors.hpp"
#include "support/places.hpp"

namespace mtp::test::io_gguf_file_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;
using mtp::index_t;

constexpr std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint32_t u8 = 0, u32 = 4, i32 = 5, f32 = 6, boolean = 7, string = 8, array = 9;
constexpr std::uint32_t as_f32 = 0, as_q4_0 = 2, as_q4_1 = 3, as_q4_k = 12, as_iq1_s = 19;

/// The message with which a file of these bytes is refused; "" if it is accepted.
std::string refused(const std::string& bytes, gguf_options options = {}) {
  const scratch_directory scratch;
  const std::filesystem::path path = scratch / "file.gguf";
  put(path, bytes);
  const std::string message = refusal([&] { const gguf_file file(path, options); });
  if (!message.empty()) CHECK(contains(message, path.string()));
  return message;
}

#define CHECK_REFUSED(bytes, part)                                     \
  do {                                                                 \
    const std::string text_ = refused(bytes);                          \
    CHECK_MESSAGE(contains(text_, part), "the text is '", text_, "'"); \
  } while (false)

/// A file with one value of the metadata.
std::string with_entry(const std::string& entry) {
  return gguf_parts{.entries = {entry}}.bytes();
}

/// A file with these tensors and so many bytes of data.
std::string with_tensors(std::vector<std::string> tensors, std::size_t data_bytes) {
  return gguf_parts{.tensors = std::move(tensors), .data = std::string(data_bytes, 'd')}.bytes();
}

std::filesystem::path golden(const std::string& name) {
  return mtp::test::tests_folder() / "golden/gguf" / name;
}

/// Compares the tensors of a golden file with their values by another program, whole and in parts;
/// returns their types in alphabetical order.
std::vector<std::string_view> types_compared(const std::string& name) {
  const gguf_file file(golden(name + ".gguf"));
  const safetensors_file expected(golden(name + ".safetensors"));
  std::vector<std::string_view> types;
  for (const tensor_info& info : expected.tensors()) {
    CAPTURE(info.name);
    const gguf_tensor* const tensor = file.find(info.name);
    REQUIRE(tensor != nullptr);
    REQUIRE(tensor->shape == info.shape);
    types.push_back(gguf_type_name(tensor->type));
    std::vector<float> wanted(static_cast<std::size_t>(info.count())), found = wanted;
    expected.read(info, 0, info.count(), std::as_writable_bytes(std::span(wanted)).data());
    file.read(*tensor, 0, tensor->count, found.data());
    CHECK(std::memcmp(found.data(), wanted.data(), found.size() * sizeof(float)) == 0);

    // Any part is the same, also one that begins and ends within blocks.
    for (const auto& [first, count] :
         {std::pair<index_t, index_t>{1, 1}, {31, 2}, {33, 95}, {tensor->count - 33, 33}}) {
      if (first < 0 || first + count > tensor->count) continue;
      std::vector<float> part(static_cast<std::size_t>(count));
      file.read(*tensor, first, count, part.data());
      CHECK(std::memcmp(part.data(), wanted.data() + first, part.size() * sizeof(float)) == 0);
    }
  }
  std::sort(types.begin(), types.end());
  return types;
}

}  // namespace

// ---- what files hold ----------------------------------------------------------------------------

TEST_CASE("a GGUF file of another program has its names and metadata and values to the bit") {
  const gguf_file file(golden("tiny.gguf"));
  CHECK(file.metadata().text("general.architecture") == "llama");
  CHECK(file.metadata().count("llama.attention.head_count") == 2);
  CHECK(file.metadata().number("llama.rope.freq_base") == 1000.0);
  CHECK(file.metadata().flag("tokenizer.ggml.add_bos_token") == false);
  REQUIRE(file.metadata().texts("tokenizer.ggml.merges") != nullptr);
  CHECK(file.metadata().texts("tokenizer.ggml.merges")->at(1) == "th e");
  REQUIRE(file.find("token_embd.weight") != nullptr);
  CHECK(file.find("token_embd.weight")->shape == std::vector<index_t>{36, 32});
  CHECK(file.find("token_embd.weight")->type == gguf_type::q8_0);
  CHECK(file.find("blk.2.attn_norm.weight") == nullptr);

  CHECK(types_compared("tiny") ==
        std::vector<std::string_view>{"BF16", "F16", "F32", "Q4_0", "Q4_1", "Q8_0"});
}

TEST_CASE("blocks of every quantized type have the values of another program to the bit") {
  CHECK(types_compared("blocks") == std::vector<std::string_view>{"IQ4_NL",
                                                                  "IQ4_XS",
                                                                  "Q2_K",
                                                                  "Q3_K",
                                                                  "Q4_0",
                                                                  "Q4_1",
                                                                  "Q4_K",
                                                                  "Q5_0",
                                                                  "Q5_1",
                                                                  "Q5_K",
                                                                  "Q6_K",
                                                                  "Q8_0"});
}

TEST_CASE("a part of a GGUF tensor can be read and nothing outside it") {
  const gguf_file file(golden("tiny.gguf"));
  const gguf_tensor& tensor = file.tensors()[0];
  std::array<float, 4> part{};
  constexpr index_t most = std::numeric_limits<index_t>::max();
  for (const auto& range : {std::pair<index_t, index_t>{0, tensor.count + 1},
                            {tensor.count, 1},
                            {-1, 1},
                            {0, -1},
                            {most, 1},
                            {1, most}}) {
    const std::string message =
        refusal([&] { file.read(tensor, range.first, range.second, part.data()); });
    CHECK(contains(message, "cannot read"));
  }
  const gguf_tensor copy = tensor;
  CHECK(contains(refusal([&] { file.read(copy, 0, 1, part.data()); }), "not of this file"));
}

TEST_CASE("a long GGUF tensor is the same in pieces") {
  const scratch_directory scratch;
  constexpr std::uint64_t rows = 2100, columns = 64;
  std::string data;
  for (std::uint64_t block = 0; block < rows * 2; ++block) {
    data += bytes_of_number<std::uint16_t>(0x3c00);  // 1
    for (unsigned i = 0; i < 16; ++i) data += static_cast<char>(block * 7 + i * 13);
  }
  put(scratch / "file",
      gguf_parts{.tensors = {gguf_description("w", {columns, rows}, as_q4_0, 0)},
                 .data = data + std::string((32 - data.size() % 32) % 32, '\0')}
          .bytes());
  const gguf_file file(scratch / "file");
  const gguf_tensor& tensor = file.tensors()[0];
  std::vector<float> all(static_cast<std::size_t>(tensor.count));
  file.read(tensor, 0, tensor.count, all.data());
  bool equal = true;
  for (index_t i = 0; i < tensor.count; ++i) {
    const auto block = static_cast<unsigned>(i / 32), place = static_cast<unsigned>(i % 32);
    const unsigned byte = (block * 7 + place % 16 * 13) & 0xff;
    const int number = static_cast<int>(place < 16 ? byte & 0xf : byte >> 4) - 8;
    equal = equal && all[static_cast<std::size_t>(i)] == static_cast<float>(number);
  }
  CHECK(equal);
}

TEST_CASE("values of every type are read") {
  const scratch_directory scratch;
  const auto number = [](auto value) { return bytes_of_number(value); };
  put(scratch / "file",
      gguf_parts{.version = 2,
                 .entries = {gguf_entry("a.u8", u8, "\xff"),
                             gguf_entry("a.i8", 1, "\xff"),
                             gguf_entry("a.u16", 2, "\xff\xff"),
                             gguf_entry("a.i16", 3, "\xff\xff"),
                             gguf_entry("a.u32", u32, number(4'000'000'000u)),
                             gguf_entry("a.i32", i32, number(-5)),
                             gguf_entry("a.f32", f32, number(0.5f)),
                             gguf_entry("a.yes", boolean, "\x01"),
                             gguf_entry("a.text", string, gguf_text("a text")),
                             gguf_entry("a.u64", 10, number(huge)),
                             gguf_entry("a.i64", 11, number(std::int64_t{-7})),
                             gguf_entry("a.f64", 12, number(0.1)),
                             gguf_entry("a.bools", array, gguf_array(boolean, 2, {"\x01\x00", 2})),
                             gguf_entry("a.none", array, gguf_array(string, 0, "")),
                             gguf_entry("a.floats", array, gguf_array(f32, 1, number(2.0f)))}}
          .bytes());
  const gguf_file file(scratch / "file");
  const gguf_metadata& all = file.metadata();
  CHECK(all.count("a.u8") == 255);
  CHECK(*all.find("a.i8") == gguf_value(std::int64_t{-1}));
  CHECK(all.count("a.u16") == 65'535);
  CHECK(*all.find("a.i16") == gguf_value(std::int64_t{-1}));
  CHECK(all.count("a.u32") == 4'000'000'000u);
  CHECK(*all.find("a.i32") == gguf_value(std::int64_t{-5}));
  CHECK(all.number("a.f32") == 0.5);
  CHECK(all.flag("a.yes") == true);
  CHECK(all.text("a.text") == "a text");
  CHECK(all.count("a.u64") == huge);
  CHECK(*all.find("a.i64") == gguf_value(std::int64_t{-7}));
  CHECK(all.number("a.f64") == 0.1);
  CHECK(*all.find("a.bools") == gguf_value(std::vector<std::uint64_t>{1, 0}));
  CHECK(all.texts("a.none")->empty());
  CHECK(*all.find("a.floats") == gguf_value(std::vector<double>{2}));
  CHECK_FALSE(all.count("a.absent").has_value());

  CHECK(
      contains(refusal([&] { all.count("a.i32"); }), "a.i32: expected a whole number that is not"));
  CHECK(contains(refusal([&] { all.text("a.u8"); }), "a.u8: expected a text, got a whole number"));
  CHECK(contains(refusal([&] { all.texts("a.text"); }), "expected an array of texts, got a text"));
  CHECK(contains(refusal([&] { all.needed_count("a.absent"); }), "a.absent is missing"));
  CHECK(contains(refusal([&] { all.needed_count("a.u32"); }), "expected 1 to 2147483647"));
}

// ---- what is refused ----------------------------------------------------------------------------

TEST_CASE("a GGUF file of another kind or version or byte order is refused") {
  CHECK_REFUSED("", "the file is too small: it has 0 bytes, expected at least 24");
  CHECK_REFUSED(std::string("GGUF") + std::string(19, '\0'), "the file is too small");
  CHECK_REFUSED("GGML" + std::string(20, '\0'), "does not begin with GGUF");
  CHECK_REFUSED(gguf_parts{.version = 1}.bytes(), "expected version 2 or 3, got 1");
  CHECK_REFUSED(gguf_parts{.version = 4}.bytes(), "expected version 2 or 3, got 4");
  CHECK_REFUSED(gguf_parts{.version = 0x03000000}.bytes(), "big-endian");
  CHECK(refused(gguf_parts{}.bytes()).empty());
}

TEST_CASE("a GGUF file that is cut anywhere is refused") {
  const std::string whole = content(golden("tiny.gguf"));
  CHECK(refused(whole).empty());
  for (std::size_t size = 0; size < 2000; size += 13)
    CHECK(!refused(whole.substr(0, size)).empty());
  CHECK_REFUSED(whole.substr(0, whole.size() - 32), "its data end behind the file");
}

TEST_CASE(
    "a number of values beyond the file is refused before memory is asked for (CVE-2024-23605)") {
  for (const std::uint64_t count : {std::uint64_t{1}, std::uint64_t{1} << 60, huge}) {
    CHECK_REFUSED(gguf_parts{.more_entries = count}.bytes(),
                  "the number of metadata values: expected at most 0");
  }
  // What one value could hold, but the file does not.
  CHECK_REFUSED((gguf_parts{.entries = {gguf_entry("a", u8, "1")}, .more_entries = 1}.bytes()),
                "file");
}

TEST_CASE(
    "a number of tensors beyond the file is refused before memory is asked for (CVE-2024-21836)") {
  for (const std::uint64_t count : {std::uint64_t{1}, huge / 24 + 1, huge}) {
    CHECK_REFUSED(gguf_parts{.more_tensors = count}.bytes(),
                  "the number of tensors: expected at most 0");
  }
  // The metadata may have used up what the tensors needed.
  CHECK_REFUSED((gguf_parts{.entries = {gguf_entry("a", string, gguf_text(std::string(40, 'a')))},
                            .more_tensors = 2}
                     .bytes()),
                "the number of tensors");
}

TEST_CASE("a length of a text that wraps around is refused (CVE-2024-23496)") {
  for (const std::uint64_t length : {huge, huge - 7, std::uint64_t{1} << 32, std::uint64_t{100}}) {
    CHECK_REFUSED(with_entry(bytes_of_number(length) + "key"), "a key: expected at most");
    CHECK_REFUSED(with_entry(gguf_entry("key", string, bytes_of_number(length) + "text")),
                  "key: expected at most");
    CHECK_REFUSED(with_tensors({bytes_of_number(length) + std::string(40, 'n')}, 0),
                  "the name of a tensor: expected at most");
  }
}

TEST_CASE("a length of an array that wraps around is refused (CVE-2024-21825)") {
  for (const std::uint64_t length : {huge, huge / 4 + 1, huge / 8 + 1, std::uint64_t{1} << 61}) {
    for (const std::uint32_t type : {u8, u32, string, std::uint32_t{10}, std::uint32_t{12}}) {
      if (length < huge / 4 && type == u8) continue;
      CHECK_REFUSED(with_entry(gguf_entry("key", array, gguf_array(type, length, "values"))),
                    "key: expected at most");
    }
  }
}

TEST_CASE("arrays of arrays and unknown types of values are refused") {
  CHECK_REFUSED(with_entry(gguf_entry("key", array, gguf_array(array, 1, gguf_array(u8, 1, "1")))),
                "key: an array of arrays is not supported");
  std::string deep;  // a parser that called itself would run out of stack
  for (int i = 0; i < 100'000; ++i)
    deep += bytes_of_number(array) + bytes_of_number(std::uint64_t{1});
  CHECK_REFUSED(with_entry(gguf_entry("key", array, deep)), "an array of arrays is not supported");
  for (const std::uint32_t type : {13u, 255u, 0xffffffffu}) {
    CHECK_REFUSED(with_entry(gguf_entry("key", type, "12345678")),
                  "key: expected a type from 0 to 12");
    CHECK_REFUSED(with_entry(gguf_entry("key", array, gguf_array(type, 1, "12345678"))),
                  "key: expected a type from 0 to 12");
  }
  CHECK_REFUSED(with_entry(gguf_entry("key", boolean, "\x02")),
                "expected 0 or 1 for a truth value, got 2");
}

TEST_CASE("keys and names that come twice or are empty or too long are refused") {
  const std::string entry = gguf_entry("key", u8, "1");
  CHECK_REFUSED((gguf_parts{.entries = {entry, entry}}.bytes()), "duplicate key 'key'");
  CHECK_REFUSED(with_entry(gguf_entry("", u8, std::string(20, '1'))),
                "expected keys of 1 to 65535 bytes, got one of 0");
  CHECK_REFUSED(with_entry(gguf_entry(std::string(65'536, 'k'), u8, "1")), "got one of 65536");
  CHECK_REFUSED(
      with_tensors({gguf_description("w", {8}, as_f32, 0), gguf_description("w", {8}, as_f32, 32)},
                   64),
      "two tensors are named 'w'");
  CHECK_REFUSED(with_tensors({gguf_description("", {8}, as_f32, 0)}, 32),
                "1 to 64 bytes, got one of 0");
  CHECK_REFUSED(with_tensors({gguf_description(std::string(65, 'w'), {8}, as_f32, 0)}, 32),
                "got one of 65");
}

TEST_CASE("a tensor of more dimensions than the format has is refused (CVE-2024-21802)") {
  CHECK_REFUSED(with_tensors({gguf_description("w", {1, 1, 1, 1, 8}, as_f32, 0)}, 32),
                "tensor 'w': expected 1 to 4 dimensions, got 5");
  std::string many = gguf_description("w", {8}, as_f32, 0);
  many.replace(9, 4, bytes_of_number(0xffffffffu));
  CHECK_REFUSED(with_tensors({many}, 32), "got 4294967295");
  CHECK_REFUSED(with_tensors({gguf_description("wwwwwwww", {}, as_f32, 0)}, 32), "got 0");
}

TEST_CASE("sizes of a tensor whose product wraps around are refused (CVE-2026-33298)") {
  const std::uint64_t half = std::uint64_t{1} << 32;
  for (const std::vector<std::uint64_t>& sizes : {std::vector<std::uint64_t>{half, half},
                                                  {half, half / 2},
                                                  {half, half, half, half},
                                                  {32, huge / 64, 3}}) {
    CHECK_REFUSED(with_tensors({gguf_description("w", sizes, as_f32, 0)}, 32), "overflows");
  }
  CHECK_REFUSED(with_tensors({gguf_description("w", {std::uint64_t{1} << 61}, as_f32, 0)}, 32),
                "the number of its bytes overflows");
  CHECK_REFUSED(with_tensors({gguf_description("w", {0, half}, as_f32, 0)}, 32),
                "expected positive sizes, got 0");
  CHECK_REFUSED(with_tensors({gguf_description("w", {huge}, as_f32, 0)}, 32),
                "expected positive sizes, got -1");
}

TEST_CASE("a size of a tensor beyond 32 bits is not cut (CVE-2026-53923)") {
  CHECK_REFUSED(
      with_tensors({gguf_description("w", {(std::uint64_t{1} << 32) + 8}, as_f32, 0)}, 32),
      "its data end behind the file: they have 17179869216 bytes");
}

TEST_CASE("sums of tensors that wrap around are refused (CVE-2025-53630 and CVE-2026-27940)") {
  constexpr std::uint64_t most = std::uint64_t{1} << 60;  // elements; their bytes fit into 63 bits
  CHECK_REFUSED(with_tensors({gguf_description("v", {most}, as_f32, 0),
                              gguf_description("w", {most}, as_f32, most * 4),
                              gguf_description("x", {most}, as_f32, most * 8)},
                             32),
                "its data end behind the file");
  CHECK_REFUSED(with_tensors({gguf_description("w", {8}, as_f32, huge - 31)}, 32),
                "its data begin at");
}

TEST_CASE("data outside the file or its order are refused (CVE-2026-7482)") {
  CHECK_REFUSED(with_tensors({gguf_description("w", {9}, as_f32, 0)}, 32),
                "its data end behind the file");
  CHECK_REFUSED(with_tensors({gguf_description("w", {8}, as_f32, 32)}, 64),
                "its data begin at 32, expected 0");
  CHECK_REFUSED(
      with_tensors({gguf_description("v", {8}, as_f32, 0), gguf_description("w", {8}, as_f32, 0)},
                   64),
      "tensor 'w': its data begin at 0, expected 32");
  CHECK_REFUSED(
      with_tensors({gguf_description("v", {8}, as_f32, 0), gguf_description("w", {8}, as_f32, 31)},
                   64),
      "its data begin at 31, expected 32");
  CHECK(refused(with_tensors(
                    {gguf_description("v", {9}, as_f32, 0), gguf_description("w", {8}, as_f32, 64)},
                    96))
            .empty());
  // No data at all: the header fills the file.
  std::string bytes = with_tensors({gguf_description("w", {8}, as_f32, 0)}, 0);
  CHECK_REFUSED(bytes.substr(0, 24 + 41), "its data end behind the file");
}

TEST_CASE("bytes behind the last tensor are refused unless they are allowed") {
  const std::string bytes = with_tensors({gguf_description("w", {8}, as_f32, 0)}, 33);
  CHECK_REFUSED(bytes, "the tensors end at byte 32 of the data, the file at 33");
  CHECK(refused(bytes, {.allow_trailing = true}).empty());
  CHECK(refused(with_tensors({gguf_description("w", {1}, as_f32, 0)}, 32)).empty());  // padding
  CHECK(refused(with_tensors({gguf_description("w", {1}, as_f32, 0)}, 4)).empty());   // none
}

TEST_CASE("an alignment of zero or not a power of two is refused") {
  for (const std::uint32_t alignment : {0u, 1u, 4u, 24u, 33u, 131'072u, 0xffffffffu}) {
    CHECK_REFUSED(with_entry(gguf_entry("general.alignment", u32, bytes_of_number(alignment))),
                  "general.alignment: expected a power of two from 8 to 65536");
  }
  CHECK_REFUSED(with_entry(gguf_entry("general.alignment", string, gguf_text("32"))),
                "general.alignment: expected a whole number");
  gguf_parts parts{
      .entries = {gguf_entry("general.alignment", u32, bytes_of_number(64u))},
      .tensors = {gguf_description("v", {1}, as_f32, 0), gguf_description("w", {1}, as_f32, 64)},
      .data = std::string(128, 'd'),
      .alignment = 64};
  CHECK(refused(parts.bytes()).empty());
}

TEST_CASE("types of tensors that cannot be read are refused by their names") {
  CHECK_REFUSED(
      with_tensors({gguf_description("w", {256}, as_iq1_s, 0)}, 160),
      "tensor 'w': expected F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, "
      "Q6_K, IQ4_NL, IQ4_XS or BF16, got IQ1_S");
  CHECK_REFUSED(with_tensors({gguf_description("w", {128}, as_q4_k, 0)}, 96),
                "tensor 'w': expected rows of a multiple of 256 elements for Q4_K, got 128");
  CHECK_REFUSED(with_tensors({gguf_description("w", {256}, 4, 0)}, 160), "got the unknown type 4");
  CHECK_REFUSED(with_tensors({gguf_description("w", {256}, 0xffffffff, 0)}, 160),
                "got the unknown type 4294967295");
  CHECK_REFUSED(with_tensors({gguf_description("w", {33}, as_q4_1, 0)}, 64),
                "tensor 'w': expected rows of a multiple of 32 elements for Q4_1, got 33");
  CHECK_REFUSED(with_tensors({gguf_description("w", {16, 2}, as_q4_1, 0)}, 32), "got 16");
}

TEST_CASE("a GGUF file that shrinks while it is open is an error") {
  const scratch_directory scratch;
  std::filesystem::copy_file(golden("tiny.gguf"), scratch / "file");
  const gguf_file file(scratch / "file");
  std::filesystem::resize_file(scratch / "file", 3000);
  std::array<float, 8> to{};
  const gguf_tensor& last = file.tensors()[file.tensors().size() - 1];
  CHECK(contains(refusal([&] { file.read(last, 0, 8, to.data()); }), "ends too early"));
}

}  // namespace mtp::test::io_gguf_file_cases
