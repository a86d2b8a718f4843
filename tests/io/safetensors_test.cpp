#include "mtp/io/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <doctest/doctest.h>
#include <filesystem>
#include <limits>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "support/places.hpp"

namespace mtp::test::io_safetensors_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;
using mtp::index_t;
using metadata = std::map<std::string, std::string>;

// ---- raw files ----------------------------------------------------------------------------------

std::string little_endian(std::uint64_t value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// A file of this header and `data_bytes` bytes of data.
std::string raw(const std::string& header, std::size_t data_bytes = 0) {
  return little_endian(header.size()) + header + std::string(data_bytes, 'd');
}

/// The message with which a file of these bytes is refused; "" if it is accepted.
std::string refused(const std::string& bytes, safetensors_options options = {}) {
  const scratch_directory scratch;
  const std::filesystem::path path = scratch / "file.safetensors";
  put(path, bytes);
  const std::string message = refusal([&] { safetensors_file file(path, options); });
  if (!message.empty()) CHECK(contains(message, path.string()));
  return message;
}

/// The same for a file of one tensor `w` with this description and `data_bytes` bytes of data.
std::string refused_tensor(const std::string& description, std::size_t data_bytes) {
  return refused(raw(R"({"w":)" + description + "}", data_bytes));
}

std::string entry(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

#define CHECK_CONTAINS(text, part)                                     \
  do {                                                                 \
    const std::string text_ = (text);                                  \
    CHECK_MESSAGE(contains(text_, part), "the text is '", text_, "'"); \
  } while (false)

// ---- sources and their values -------------------------------------------------------------------

/// Bytes that depend on their place and on `seed`.
std::byte pattern(std::uint64_t place, std::uint64_t seed) {
  return static_cast<std::byte>(((place + 1) * 0x9e3779b97f4a7c15u + seed * 0xc2b2ae3d27d4eb4fu) >>
                                56);
}

tensor_source patterned(const std::string& name,
                        element type,
                        const std::vector<index_t>& shape,
                        std::uint64_t seed) {
  const index_t size = element_size(type);
  return {name, type, shape, [=](index_t first, index_t count, std::byte* to) {
            for (index_t i = 0; i < count * size; ++i) {
              to[i] = pattern(static_cast<std::uint64_t>(first * size + i), seed);
            }
          }};
}

bool holds_pattern(const safetensors_file& file, const std::string& name, std::uint64_t seed) {
  const tensor_info* const tensor = file.find(name);
  if (tensor == nullptr) return false;
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor->end - tensor->begin));
  file.read(*tensor, 0, tensor->count(), bytes.data());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != pattern(i, seed)) return false;
  }
  return true;
}

std::vector<tensor_source> small_model(std::uint64_t seed = 0) {
  return {patterned("bytes", element::u8, {5}, seed),
          patterned("weight", element::f32, {2, 3}, seed + 1),
          patterned("half", element::bf16, {3}, seed + 2),
          patterned("exact", element::f64, {2}, seed + 3),
          patterned("steps", element::i64, {}, seed + 4),
          patterned("ids", element::i32, {1, 2, 1}, seed + 5),
          patterned("none", element::f32, {4, 0, 7}, seed + 6)};
}

/// The model as a file would have it, to write it again.
std::vector<tensor_source> sources_of(const safetensors_file& file) {
  std::vector<tensor_source> sources;
  for (const tensor_info& tensor : file.tensors()) {
    sources.push_back(
        {tensor.name, tensor.type, tensor.shape, [&](index_t first, index_t count, std::byte* to) {
           file.read(tensor, first, count, to);
         }});
  }
  return sources;
}

}  // namespace

// ---- reading back what was written --------------------------------------------------------------

TEST_CASE("elements have the sizes and names of the format") {
  CHECK(element_size(element_of<double>()) == 8);
  CHECK(element_size(element_of<float>()) == 4);
  CHECK(element_size(element_of<mtp::bf16>()) == sizeof(mtp::bf16));
  CHECK(element_size(element_of<std::int64_t>()) == 8);
  CHECK(element_size(element_of<std::int32_t>()) == 4);
  CHECK(element_size(element_of<std::uint8_t>()) == 1);
  CHECK(element_name(element::bf16) == "BF16");
  CHECK(element_size(element::f16) == 2);
  CHECK(element_size(element::f8_e4m3) == 1);
  CHECK(element_size(element::f8_e8m0) == 1);
  for (const std::string name :
       {"F64", "F32", "BF16", "I64", "I32", "U8", "F16", "F8_E4M3", "F8_E8M0"}) {
    REQUIRE(element_of_name(name).has_value());
    CHECK(element_name(*element_of_name(name)) == name);
  }
  CHECK_FALSE(element_of_name("F8_E5M2").has_value());
}

TEST_CASE("a file gives back names, types, shapes, values and metadata") {
  const scratch_directory scratch;
  const metadata entries{
      {"config", "{\"depth\": 2}"}, {"empty", ""}, {"text \"\\\n", "\xc3\xa4\x01"}};
  write_safetensors(scratch / "model", small_model(), entries);
  CHECK(scratch.entries() == 1);

  const safetensors_file file(scratch / "model");
  metadata found = file.metadata();
  REQUIRE(found.contains("checksum"));
  CHECK(found["checksum"].size() == 22);
  found.erase("checksum");
  CHECK(found == entries);

  REQUIRE(file.tensors().size() == 7);
  std::uint64_t end = 0;
  for (const tensor_info& tensor : file.tensors()) {
    CHECK(tensor.begin == end);
    CHECK(tensor.begin % static_cast<std::uint64_t>(element_size(tensor.type)) == 0);
    CHECK(file.find(tensor.name) == &tensor);
    end = tensor.end;
  }

  REQUIRE(file.find("weight") != nullptr);
  CHECK(file.find("weight")->type == element::f32);
  CHECK(file.find("weight")->shape == std::vector<index_t>{2, 3});
  CHECK(file.find("weight")->count() == 6);
  CHECK(file.find("steps")->shape.empty());
  CHECK(file.find("steps")->count() == 1);
  CHECK(file.find("none")->shape == std::vector<index_t>{4, 0, 7});
  CHECK(file.find("none")->count() == 0);
  CHECK(file.find("absent") == nullptr);
  CHECK(file.find("") == nullptr);

  CHECK(holds_pattern(file, "bytes", 0));
  CHECK(holds_pattern(file, "weight", 1));
  CHECK(holds_pattern(file, "half", 2));
  CHECK(holds_pattern(file, "exact", 3));
  CHECK(holds_pattern(file, "steps", 4));
  CHECK(holds_pattern(file, "ids", 5));
  CHECK(holds_pattern(file, "none", 6));
  CHECK(file.verify());
}

TEST_CASE("values come back as they went in") {
  const scratch_directory scratch;
  const std::array<float, 4> values{1.5f, -0.0f, 3e38f, -1e-40f};
  const std::vector<tensor_source> sources{
      {"w", element_of<float>(), {2, 2}, [&](index_t first, index_t count, std::byte* to) {
         std::memcpy(to, values.data() + first, static_cast<std::size_t>(count) * sizeof(float));
       }}};
  write_safetensors(scratch / "model", sources);
  const safetensors_file file(scratch / "model");
  std::array<float, 4> found{};
  file.read(*file.find("w"), 0, 4, std::as_writable_bytes(std::span(found)).data());
  CHECK(std::memcmp(&found, &values, sizeof values) == 0);

  // The bytes are those the format prescribes, without the writer's own reader in between.
  const std::string bytes = content(scratch / "model");
  CHECK(bytes.substr(bytes.size() - 16, 4) == std::string("\x00\x00\xc0\x3f", 4));
}

TEST_CASE("a part of a tensor can be read, and nothing outside it") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model());
  const safetensors_file file(scratch / "model");
  const tensor_info& weight = *file.find("weight");
  std::array<std::byte, 8> part{};
  file.read(weight, 3, 2, part.data());
  for (std::size_t i = 0; i < part.size(); ++i) CHECK(part[i] == pattern(12 + i, 1));
  file.read(weight, 6, 0, nullptr);

  constexpr index_t huge = std::numeric_limits<index_t>::max();
  const std::vector<std::pair<index_t, index_t>> bad{
      {0, 7}, {6, 1}, {7, 0}, {-1, 1}, {0, -1}, {huge, 1}, {1, huge}, {huge, huge}};
  for (const auto& range : bad) {
    CHECK_CONTAINS(refusal([&] { file.read(weight, range.first, range.second, part.data()); }),
                   "tensor 'weight': cannot read");
  }
  tensor_info foreign = weight;
  foreign.end = std::uint64_t{1} << 40;
  CHECK_CONTAINS(refusal([&] { file.read(foreign, 0, 1, part.data()); }), "not of this file");
}

TEST_CASE("tensors larger than a chunk are written and verified in pieces") {
  const scratch_directory scratch;
  const index_t large = (index_t{5} << 20) / 8 + 13;
  index_t next = 0;
  bool in_order = true;
  index_t largest_piece = 0;
  std::vector<tensor_source> sources{patterned("large", element::f64, {large}, 9),
                                     patterned("odd", element::u8, {(index_t{1} << 20) + 1}, 10)};
  sources[0].read = [&, read = sources[0].read](index_t first, index_t count, std::byte* to) {
    in_order = in_order && first == next;
    next = first + count;
    largest_piece = std::max(largest_piece, count);
    read(first, count, to);
  };
  write_safetensors(scratch / "model", sources);
  CHECK(in_order);
  CHECK(next == large);
  CHECK(largest_piece * 8 <= index_t{1} << 20);
  const safetensors_file file(scratch / "model");
  CHECK(holds_pattern(file, "large", 9));
  CHECK(holds_pattern(file, "odd", 10));
  CHECK(file.verify());
}

TEST_CASE("the same input gives the same bytes, and so does what was read") {
  const scratch_directory scratch;
  const metadata entries{{"b", "2"}, {"a", "1"}, {"zz", "3"}};
  write_safetensors(scratch / "one", small_model(), entries);
  write_safetensors(scratch / "two", small_model(), entries);
  const std::string one = content(scratch / "one");
  CHECK((one == content(scratch / "two")));

  const safetensors_file file(scratch / "one");
  write_safetensors(scratch / "three", sources_of(file), file.metadata());
  CHECK((one == content(scratch / "three")));
  write_safetensors(scratch / "one", sources_of(file), file.metadata());  // over its own source
  CHECK((one == content(scratch / "one")));
}

TEST_CASE("the header is what the format says") {
  const scratch_directory scratch;
  write_safetensors(
      scratch / "model",
      std::vector{patterned("w", element::f32, {2}, 0), patterned("steps", element::i64, {}, 0)},
      {{"a", "1"}, {"z", "2"}});
  const std::string bytes = content(scratch / "model");
  const std::size_t data_at = bytes.size() - 16;
  CHECK(data_at % 64 == 0);
  CHECK(bytes.substr(0, 8) == little_endian(data_at - 8));
  std::string header = bytes.substr(8, data_at - 8);
  header.erase(header.find_last_not_of(' ') + 1);
  header.replace(header.find("xxh64:") + 6, 16, "0123456789abcdef");
  CHECK(header == R"({"__metadata__":{"a":"1","checksum":"xxh64:0123456789abcdef","z":"2"},)"
                  R"("steps":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                  R"("w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})");
}

TEST_CASE("the checksum is the XXH64 of the file with its digits as zeros") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model());
  std::string bytes = content(scratch / "model");
  const std::size_t digits = bytes.find("xxh64:") + 6;
  const std::string stored = bytes.substr(digits, 16);
  xxh64 sum;
  sum.update(bytes_of(bytes.replace(digits, 16, "0000000000000000")));
  CHECK(stored == to_hex(sum.digest()));
}

TEST_CASE("a file without tensors is a file") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", {});
  const safetensors_file file(scratch / "model");
  CHECK(file.tensors().empty());
  CHECK(file.metadata().size() == 1);
  CHECK(file.verify());
  CHECK(refused(raw("{}")) == "");
}

TEST_CASE("any text may be a name or metadata, also what looks like a checksum") {
  const scratch_directory scratch;
  const metadata entries{{"a\",\"checksum\":\"xxh64:0123456789abcdef", "x"},
                         {"a", ",\"checksum\":\"xxh64:0123456789abcdef\""},
                         {"b\\", "{\"checksum\":\"xxh64:0123456789abcdef\"}"},
                         {"x\"checksum", "xxh64:0123456789abcdef"},
                         {"checksum", "is replaced"}};
  const std::vector<std::string> names{
      "", "checksum", "\"quoted\"", "new\nline", std::string("nul\0l", 5), "\xe2\x82\xac", "a/b.c"};
  std::vector<tensor_source> sources;
  for (const std::string& name : names) sources.push_back(patterned(name, element::u8, {3}, 1));
  write_safetensors(scratch / "model", sources, entries);
  const safetensors_file file(scratch / "model");
  for (const std::string& name : names) CHECK_MESSAGE(holds_pattern(file, name, 1), name);
  for (const auto& [key, value] : entries) {
    if (key != "checksum") CHECK(file.metadata().at(key) == value);
  }
  CHECK(file.verify());
}

TEST_CASE("the golden files, written by another program, are read") {
  int files = 0;
  for (const auto& place : std::filesystem::directory_iterator(test::golden_folder())) {
    if (place.path().extension() != ".safetensors") continue;
    ++files;
    const safetensors_file file(place.path());
    CHECK_FALSE(file.tensors().empty());
    CHECK(file.metadata().contains("config"));
    if (!file.metadata().contains("checksum")) CHECK_FALSE(file.verify());
  }
  CHECK(files > 0);
}

// ---- bad input ----------------------------------------------------------------------------------

TEST_CASE("bad file: absent, a directory, not a file") {
  const scratch_directory scratch;
  const auto open_error = [](const std::filesystem::path& path) {
    return refusal([&] { safetensors_file file(path); });
  };
  CHECK_CONTAINS(open_error(scratch / "absent"), "No such file or directory");
  CHECK_CONTAINS(open_error(scratch / "absent"), (scratch / "absent").string());
  CHECK_CONTAINS(open_error(scratch.path()), "Is a directory");
  CHECK_CONTAINS(open_error("/dev/null"), "not a regular file");
}

TEST_CASE("bad file: too small") {
  for (std::size_t size = 0; size < 8; ++size) {
    CHECK_CONTAINS(refused(std::string(size, '\0')), "the file is too small");
  }
  CHECK_CONTAINS(refused(std::string(8, '\0')), "does not start with '{'");
}

TEST_CASE("bad header length: wraps around") {
  for (const std::uint64_t length :
       {~std::uint64_t{0}, ~std::uint64_t{0} - 7, ~std::uint64_t{0} - 8, std::uint64_t{1} << 63}) {
    CHECK_CONTAINS(refused(little_endian(length) + "{}"), "the header is too large");
  }
}

TEST_CASE("bad header length: more than allowed or than there is") {
  CHECK_CONTAINS(refused(little_endian(3) + "{}"), "it claims 3 bytes, the file has 2");
  CHECK_CONTAINS(refused(little_endian(100'000'000) + "{}"), "the file has 2 after its length");
  CHECK_CONTAINS(refused(little_endian(100'000'001) + "{}"), "at most 100000000");

  // Also where the file is long enough. The file has a hole in place of its bytes.
  const scratch_directory scratch;
  put(scratch / "hole", little_endian(100'000'001) + "{}");
  std::filesystem::resize_file(scratch / "hole", 200'000'000);
  CHECK_CONTAINS(refusal([&] { safetensors_file file(scratch / "hole"); }), "at most 100000000");
}

TEST_CASE("bad header: not JSON") {
  const std::vector<std::string> headers{"{",
                                         "{]",
                                         "{}}",
                                         "{} x",
                                         "{\"w\"}",
                                         "{\"w\":}",
                                         "{w:1}",
                                         "{,}",
                                         "{\"__metadata__\":{\"a\":\"b\",}}",
                                         "{'__metadata__':{}}",
                                         "{}// comment",
                                         "{\"__metadata__\":{\"a\":\"\n\"}}",
                                         "{\"__metadata__\":{\"a\":\"\\x\"}}",
                                         "{\"__metadata__\":{\"a\":\"\\ud800\"}}",
                                         "{\"__metadata__\":{\"a\":\"b"};
  for (const std::string& header : headers) {
    CHECK_CONTAINS(refused(raw(header)), "the header is not valid JSON at byte");
  }
  CHECK(refused(raw("{\"__metadata__\":{\"a\":\"" + std::string(100'000, '\1'))).size() < 1000);
}

TEST_CASE("bad header: not UTF-8") {
  for (const std::string bad :
       {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82"}) {
    CHECK_CONTAINS(refused(raw("{\"__metadata__\":{\"a\":\"" + bad + "\"}}")), "not valid JSON");
    CHECK_CONTAINS(refused(raw("{\"" + bad + "\":" + entry("U8", "[0]", "[0,0]") + "}")),
                   "not valid JSON");
    CHECK_CONTAINS(refused(raw("{}" + bad)), "not valid JSON");
  }
}

TEST_CASE("bad header: does not start with a brace") {
  for (const std::string header : {" {}", "[]", "\"a\"", "null", "\xef\xbb\xbf{}", "\n{}", ""}) {
    CHECK_CONTAINS(refused(raw(header)), "does not start with '{'");
  }
}

TEST_CASE("bad header: a NUL byte ends nothing") {
  CHECK_CONTAINS(refused(raw(std::string("{}\0", 3))), "NUL");
  CHECK_CONTAINS(refused(raw(std::string("{}\0{\"w\":1}", 10))), "NUL");
  CHECK_CONTAINS(refused(raw(std::string("{\0}", 3))), "NUL");
}

TEST_CASE("header: padding with white space is accepted") {
  CHECK(refused(raw("{}      ")) == "");
  CHECK(refused(raw("{ \"w\" : " + entry("U8", "[ 1 ]", "[ 0 ,\t1 ]") + " }\n ", 1)) == "");
}

TEST_CASE("bad header: deep nesting is refused at once") {
  const std::size_t depth = 1'000'000;
  std::string objects;
  for (std::size_t i = 0; i < depth; ++i) objects += "{\"a\":";
  CHECK_CONTAINS(refused(raw(objects)), "unknown key 'a'");
  CHECK_CONTAINS(refused(raw("{\"w\":" + std::string(depth, '['))),
                 "expected an object, got an array");
  CHECK_CONTAINS(refused(raw("{\"w\":{\"shape\":" + std::string(depth, '['))), "'shape'");
  CHECK_CONTAINS(refused(raw("{\"__metadata__\":{\"a\":" + std::string(depth, '['))),
                 "expected a string, got an array");
}

TEST_CASE("bad header: duplicate keys") {
  const std::string w = "\"w\":" + entry("U8", "[1]", "[0,1]");
  CHECK_CONTAINS(refused(raw("{" + w + "," + w + "}", 1)), "duplicate key 'w'");
  CHECK_CONTAINS(refused(raw("{" + w + ",\"\\u0077\":" + entry("U8", "[1]", "[1,2]") + "}", 2)),
                 "duplicate key 'w'");
  CHECK_CONTAINS(refused(raw("{\"__metadata__\":{},\"__metadata__\":{}}")),
                 "duplicate key '__metadata__'");
  CHECK_CONTAINS(refused(raw("{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}")), "duplicate key 'a'");
  for (const std::string twice : {R"("dtype":"U8")", R"("shape":[1])", R"("data_offsets":[0,1])"}) {
    const std::string message =
        refused_tensor(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],)" + twice + "}", 1);
    CHECK_CONTAINS(message, "duplicate key");
    CHECK_CONTAINS(message, "tensor 'w'");
  }
}

TEST_CASE("bad header: metadata are an object of strings") {
  for (const std::string value : {"1", "-1", "1.5", "null", "true", "[]", "{}", "[\"a\"]"}) {
    CHECK_CONTAINS(refused(raw("{\"__metadata__\":{\"key\":" + value + "}}")),
                   "__metadata__: 'key': expected a string, got ");
  }
  for (const std::string value : {"1", "null", "true", "\"a\"", "[]"}) {
    CHECK_CONTAINS(refused(raw("{\"__metadata__\":" + value + "}")),
                   "'__metadata__': expected an object, got ");
  }
}

TEST_CASE("bad tensor: an element type that is not supported has its own message") {
  for (const std::string type : {"F8_E5M2", "BOOL", "F4", "U64", "f32", "", "float32"}) {
    CHECK_CONTAINS(refused_tensor(entry(type, "[1]", "[0,1]"), 1),
                   "tensor 'w': 'dtype': the element type '" + type + "' is not supported");
  }
}

TEST_CASE("bad tensor: the number of bytes overflows") {
  for (const std::string shape : {"[4194305,4194305,211106198978564]",
                                  "[9223372036854775807,2]",
                                  "[9223372036854775807]",
                                  "[4294967296,4294967296]",
                                  "[0,4294967296,4294967296]",
                                  "[4294967296,4294967296,0]"}) {
    const std::string message = refused_tensor(entry("F32", shape, "[0,4]"), 4);
    CHECK_CONTAINS(message, "tensor 'w': the number of bytes of the shape [");
    CHECK_CONTAINS(message, "overflows");
  }
}

TEST_CASE("bad tensor: numbers that are no sizes and no offsets") {
  for (const std::string number : {"-1",
                                   "-0",
                                   "1.0",
                                   "1e0",
                                   "1e30",
                                   "\"1\"",
                                   "null",
                                   "true",
                                   "[1]",
                                   "{}",
                                   "18446744073709551616",
                                   "99999999999999999999999999999999"}) {
    CHECK_CONTAINS(refused_tensor(entry("U8", "[" + number + "]", "[0,1]"), 1),
                   "tensor 'w': 'shape': expected integers that are not negative");
    CHECK_CONTAINS(refused_tensor(entry("U8", "[1]", "[0," + number + "]"), 1),
                   "tensor 'w': 'data_offsets': expected integers that are not negative");
    CHECK_CONTAINS(refused_tensor(entry("U8", "[1]", "[" + number + ",1]"), 1),
                   "tensor 'w': 'data_offsets': expected integers that are not negative");
  }
  CHECK_CONTAINS(refused_tensor(entry("U8", "[9223372036854775808]", "[0,1]"), 1),
                 "the size 9223372036854775808 is too large");
  for (const std::string number : {"01", "+1", "0x1", ".5", "1.", "NaN", "Infinity"}) {
    CHECK_CONTAINS(refused_tensor(entry("U8", "[" + number + "]", "[0,1]"), 1), "not valid JSON");
  }
}

TEST_CASE("bad tensor: fields that are missing, unknown or of the wrong kind") {
  CHECK_CONTAINS(refused_tensor("{}", 0), "tensor 'w': 'dtype' is missing");
  CHECK_CONTAINS(refused_tensor(R"({"dtype":"U8","data_offsets":[0,1]})", 1),
                 "tensor 'w': 'shape' is missing");
  CHECK_CONTAINS(refused_tensor(R"({"dtype":"U8","shape":[1]})", 1),
                 "tensor 'w': 'data_offsets' is missing");
  CHECK_CONTAINS(refused_tensor(R"({"dtype":"U8","scale":1})", 1),
                 "tensor 'w': unknown key 'scale'");
  CHECK_CONTAINS(refused_tensor(R"({"dtype":8})", 1), "'dtype': expected a string, got 8");
  CHECK_CONTAINS(refused_tensor(R"({"dtype":["U8"]})", 1), "'dtype': expected a string");
  CHECK_CONTAINS(refused_tensor(R"({"shape":1})", 1), "'shape': expected an array, got 1");
  CHECK_CONTAINS(refused_tensor(R"({"shape":"[1]"})", 1), "'shape': expected an array");
  CHECK_CONTAINS(refused_tensor(R"({"data_offsets":{}})", 1), "'data_offsets': expected an array");
  for (const std::string value : {"1", "null", "\"a\"", "[]", "false"}) {
    CHECK_CONTAINS(refused_tensor(value, 0), "'w': expected an object, got ");
  }
  CHECK_CONTAINS(refused_tensor(entry("U8", "[1]", "[]"), 1), "expected 2, got 0");
  CHECK_CONTAINS(refused_tensor(entry("U8", "[1]", "[0]"), 1), "expected 2, got 1");
  CHECK_CONTAINS(refused_tensor(entry("U8", "[1]", "[0,1,1]"), 1), "expected 2, got more");
}

TEST_CASE("bad tensor: offsets in the wrong order or beyond the file") {
  CHECK_CONTAINS(refused_tensor(entry("U8", "[1]", "[1,0]"), 1),
                 "tensor 'w': its data begin at 1, after their end at 0");
  CHECK_CONTAINS(refused_tensor(entry("U8", "[2]", "[0,2]"), 1),
                 "tensor 'w': its data end at 2, after the end of the file");
  CHECK_CONTAINS(refused_tensor(entry("U8", "[1]", "[0,18446744073709551615]"), 1),
                 "after the end of the file");
  CHECK_CONTAINS(
      refused_tensor(entry("U8", "[1]", "[18446744073709551615,18446744073709551615]"), 1),
      "after the end of the file");
}

TEST_CASE("bad tensors: overlap") {
  CHECK_CONTAINS(refused(raw("{\"a\":" + entry("U8", "[2]", "[0,2]") +
                                 ",\"b\":" + entry("U8", "[2]", "[1,3]") + "}",
                             3)),
                 "tensor 'b': its data overlap others: they begin at 1, expected 2");
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i) {
    header += "\"" + std::to_string(i) + "\":" + entry("U8", "[1]", "[0,1]") + ",";
  }
  header.back() = '}';
  CHECK_CONTAINS(refused(raw(header, 1)), "its data overlap others");
}

TEST_CASE("bad tensors: gaps and trailing bytes") {
  CHECK_CONTAINS(refused_tensor(entry("U8", "[1]", "[1,2]"), 2),
                 "tensor 'w': there is a gap before its data: they begin at 1, expected 0");
  CHECK_CONTAINS(refused(raw("{\"a\":" + entry("U8", "[1]", "[0,1]") +
                                 ",\"b\":" + entry("U8", "[1]", "[2,3]") + "}",
                             3)),
                 "tensor 'b': there is a gap before its data: they begin at 2, expected 1");

  const std::string trailing = raw("{\"w\":" + entry("U8", "[1]", "[0,1]") + "}", 5);
  CHECK_CONTAINS(refused(trailing), "the tensors end at byte 1 of the data, the file at 5");
  CHECK(refused(trailing, {.allow_trailing = true}) == "");
  CHECK_CONTAINS(refused(raw("{}", 4)), "the tensors end at byte 0");
  CHECK(refused(raw("{}", 4), {.allow_trailing = true}) == "");

  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model());
  put(scratch / "model", content(scratch / "model") + "more");
  CHECK(safetensors_file(scratch / "model", {.allow_trailing = true}).verify());
}

TEST_CASE("bad tensor: the offsets span another size than the shape has") {
  CHECK_CONTAINS(refused_tensor(entry("F32", "[2]", "[0,4]"), 4),
                 "tensor 'w': F32 [2] has 8 bytes, the data offsets span 4");
  CHECK_CONTAINS(refused_tensor(entry("F32", "[]", "[0,8]"), 8), "F32 [] has 4 bytes");
  CHECK_CONTAINS(refused_tensor(entry("F64", "[3,0]", "[0,8]"), 8), "F64 [3, 0] has 0 bytes");
}

TEST_CASE("tensors of rank 0 and without elements are accepted, also at the same offset") {
  const std::string header =
      "{\"last\":" + entry("U8", "[0]", "[6,6]") + ",\"scalar\":" + entry("U8", "[]", "[0,1]") +
      ",\"a\":" + entry("F64", "[0]", "[1,1]") + ",\"w\":" + entry("U8", "[5]", "[1,6]") +
      ",\"b\":" + entry("F32", "[7,0,9223372036854775]", "[1,1]") +
      ",\"first\":" + entry("I64", "[0,0]", "[0,0]") + "}";
  const scratch_directory scratch;
  put(scratch / "model", raw(header, 6));
  const safetensors_file file(scratch / "model");
  std::string order;
  for (const tensor_info& tensor : file.tensors()) order += tensor.name + " ";
  CHECK(order == "first scalar a b w last ");
  CHECK(file.find("scalar")->count() == 1);
  CHECK(file.find("b")->count() == 0);
  CHECK_FALSE(file.verify());  // has no checksum
}

// ---- damage -------------------------------------------------------------------------------------

TEST_CASE("a file cut off at any byte is refused") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model(), {{"config", "{\"depth\": 2}"}});
  const std::string whole = content(scratch / "model");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put(scratch / "cut", whole.substr(0, size));
    CHECK_MESSAGE(refusal([&] { safetensors_file file(scratch / "cut"); }) != "", size, " bytes");
  }
}

TEST_CASE("a flip of any bit is found by the reader or by the checksum") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model(), {{"config", "{\"depth\": 2}"}});
  std::string bytes = content(scratch / "model");
  const auto is_right = [&] {
    put(scratch / "flipped", bytes);
    bool verified = false;
    const std::string message =
        refusal([&] { verified = safetensors_file(scratch / "flipped").verify(); });
    return message.empty() && verified;
  };
  CHECK(is_right());
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto mask = static_cast<char>(1u << bit % 8);
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ mask);
    CHECK_FALSE_MESSAGE(is_right(), "byte ", bit / 8, ", bit ", bit % 8);
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ mask);
  }
}

TEST_CASE("a wrong checksum names the expected and the found one") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model());
  std::string bytes = content(scratch / "model");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  put(scratch / "model", bytes);
  const safetensors_file file(scratch / "model");
  const std::string message = refusal([&] { static_cast<void>(file.verify()); });
  CHECK_CONTAINS(message, "the checksum is wrong: expected '" + file.metadata().at("checksum"));
  CHECK_CONTAINS(message, (scratch / "model").string());
}

TEST_CASE("checksums of other programs are not taken for ours") {
  const scratch_directory scratch;
  const auto verify_error = [&](const std::string& header) {
    put(scratch / "model", raw(header));
    return refusal([&] { static_cast<void>(safetensors_file(scratch / "model").verify()); });
  };
  for (const std::string value : {"", "sha256:0123", "xxh64:", "xxh64:0123456789abcdef0"}) {
    CHECK_CONTAINS(verify_error("{\"__metadata__\":{\"checksum\":\"" + value + "\"}}"),
                   "not of a known kind");
  }
  CHECK_CONTAINS(verify_error("{\"__metadata__\":{ \"checksum\": \"xxh64:0123456789abcdef\"}}"),
                 "does not apply");
  CHECK_CONTAINS(verify_error("{\"__metadata__\":{\"checksum\":\"xxh64:0123456789abcdef\"}}"),
                 "the checksum is wrong");
}

TEST_CASE("a file that shrinks while it is open is an error") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model());
  const safetensors_file file(scratch / "model");
  std::filesystem::resize_file(scratch / "model", 100);
  std::array<std::byte, 64> to{};
  CHECK_CONTAINS(refusal([&] { file.read(*file.find("weight"), 0, 6, to.data()); }),
                 "ends too early");
  CHECK_CONTAINS(refusal([&] { static_cast<void>(file.verify()); }), "ends too early");
}

// ---- writing ------------------------------------------------------------------------------------

TEST_CASE("write_safetensors refuses what no file can hold, and keeps the old one") {
  const scratch_directory scratch;
  put(scratch / "model", "old");
  const auto write_error = [&](const std::vector<tensor_source>& sources,
                               const metadata& entries = {}) {
    const std::string message =
        refusal([&] { write_safetensors(scratch / "model", sources, entries); });
    CHECK(contains(message, (scratch / "model").string()));
    return message;
  };
  const auto w = [](const std::string& name, const std::vector<index_t>& shape) {
    return patterned(name, element::f32, shape, 0);
  };
  constexpr index_t huge = std::numeric_limits<index_t>::max();

  CHECK_CONTAINS(write_error({w("w", {1}), w("v", {1}), w("w", {2})}), "two tensors are named 'w'");
  CHECK_CONTAINS(write_error({w("__metadata__", {1})}),
                 "tensor '__metadata__': this name is reserved");
  CHECK_CONTAINS(write_error({w("w", {2, -1})}),
                 "tensor 'w': the shape [2, -1] has a negative size");
  CHECK_CONTAINS(write_error({w("w", {huge, huge})}), "is too large");
  CHECK_CONTAINS(write_error({w("w", {huge / 4})}), "is too large");
  CHECK_CONTAINS(write_error({w("v", {huge / 8}), w("w", {huge / 8})}), "tensor 'w'");
  CHECK_CONTAINS(write_error({{"w", element::f32, {1}, nullptr}}), "no function to read it");
  CHECK_CONTAINS(write_error({w("\xff", {1})}), "not valid UTF-8");
  CHECK_CONTAINS(write_error({}, {{"\xff", ""}}), "not valid UTF-8");
  CHECK_CONTAINS(write_error({}, {{"a", "\xc3"}}), "not valid UTF-8");
  CHECK_CONTAINS(write_error({}, {{"a", std::string(100'000'000, 'a')}}), "at most 100000000");

  CHECK(content(scratch / "model") == "old");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("write_safetensors names a directory that is missing and a target that is one") {
  const scratch_directory scratch;
  CHECK_CONTAINS(refusal([&] { write_safetensors(scratch / "absent/model", small_model()); }),
                 (scratch / "absent/model").string() + "': No such file or directory");
  std::filesystem::create_directory(scratch / "folder");
  CHECK_CONTAINS(refusal([&] { write_safetensors(scratch / "folder", small_model()); }),
                 "Is a directory");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("a source that throws leaves the old file") {
  const scratch_directory scratch;
  put(scratch / "model", "old");
  std::vector<tensor_source> sources = small_model();
  sources[1].read = [](index_t, index_t, std::byte*) { throw std::bad_alloc(); };
  CHECK_THROWS_AS(write_safetensors(scratch / "model", sources), std::bad_alloc);
  CHECK(content(scratch / "model") == "old");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("a disk that is full at any byte is an error, and the old model stays") {
  const scratch_directory scratch;
  const std::vector<tensor_source> large{patterned("large", element::f32, {700'000}, 2),
                                         patterned("w", element::f32, {3}, 3)};
  write_safetensors(scratch / "probe", large);
  const std::size_t size = content(scratch / "probe").size();
  std::filesystem::remove(scratch / "probe");

  write_safetensors(scratch / "model", small_model());
  const std::string old = content(scratch / "model");
  std::vector<std::size_t> limits{0, 1, 7, 8, 63, 64, size - 1};
  for (std::size_t limit = 100; limit < size; limit += 65'536 + 1) limits.push_back(limit);
  for (const std::size_t limit : limits) {
    std::string message;
    {
      const file_size_limit full(limit);
      message = refusal([&] { write_safetensors(scratch / "model", large); });
    }
    CHECK_MESSAGE(contains(message, "cannot write"), limit, ": ", message);
    CHECK((content(scratch / "model") == old));
    CHECK(scratch.entries() == 1);
  }
  {
    const file_size_limit exact(size);
    write_safetensors(scratch / "model", large);
  }
  CHECK(safetensors_file(scratch / "model").verify());
}

TEST_CASE("saving over an open file leaves the values of its reader") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model(0));
  const safetensors_file before(scratch / "model");
  write_safetensors(scratch / "model", small_model(100));
  const safetensors_file after(scratch / "model");
  CHECK(holds_pattern(before, "weight", 1));
  CHECK(before.verify());
  CHECK(holds_pattern(after, "weight", 101));
  CHECK(after.verify());
}

TEST_CASE("two writers at once leave one whole model, and readers see nothing else") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model(0));
  std::vector<std::thread> writers;
  for (std::uint64_t writer = 0; writer < 2; ++writer) {
    writers.emplace_back([&scratch, writer] {
      for (int round = 0; round < 30; ++round) {
        write_safetensors(scratch / "model", small_model(100 * writer));
      }
    });
  }
  int whole = 0;
  for (int round = 0; round < 60; ++round) {
    const safetensors_file file(scratch / "model");
    const bool first = holds_pattern(file, "exact", 3) && holds_pattern(file, "bytes", 0);
    const bool second = holds_pattern(file, "exact", 103) && holds_pattern(file, "bytes", 100);
    if (file.verify() && first != second) ++whole;
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(whole == 60);
  CHECK(safetensors_file(scratch / "model").verify());
  CHECK(scratch.entries() == 1);
}

TEST_CASE("threads read the same file at the same time, and it can be moved") {
  const scratch_directory scratch;
  write_safetensors(scratch / "model", small_model());
  safetensors_file opened(scratch / "model");
  const safetensors_file file(std::move(opened));
  std::array<bool, 4> right{};
  std::vector<std::thread> readers;
  for (bool& one : right) {
    readers.emplace_back([&one, &file] {
      one = true;
      for (int round = 0; round < 50; ++round) one = one && holds_pattern(file, "weight", 1);
    });
  }
  for (std::thread& reader : readers) reader.join();
  for (const bool one : right) CHECK(one);
}

}  // namespace mtp::test::io_safetensors_cases
