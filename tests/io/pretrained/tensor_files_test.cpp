// Folders of checkpoints: one file, shards with an index, and what is wrong with them.
#include "mtp/io/pretrained/tensor_files.hpp"

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/safetensors_writer.hpp"

namespace mtp::test::io_pretrained_tensor_files_cases {

namespace {

using mtp::index_t;
using mtp::testing::put;
using mtp::testing::scratch_directory;

/// A file with tensors [2] of the value `value`.
void write_file(const std::filesystem::path& path,
                const std::vector<std::string>& names,
                float value) {
  std::vector<mtp::io::tensor_source> sources;
  for (const auto& name : names) {
    sources.push_back(
        {name, mtp::io::element::f32, {2}, [value](index_t, index_t count, std::byte* to) {
           const std::vector<float> all(static_cast<std::size_t>(count), value);
           std::memcpy(to, all.data(), all.size() * sizeof(float));
         }});
  }
  mtp::io::write_safetensors(path, sources, {});
}

std::string refused(const std::filesystem::path& path) {
  try {
    const mtp::io::tensor_files files(path);
  } catch (const mtp::error& error) {
    return error.what();
  }
  return "accepted";
}

void check_says(const std::string& message, const std::string& part) {
  CAPTURE(message);
  CAPTURE(part);
  CHECK(message.find(part) != std::string::npos);
}

constexpr const char* index_name = "model.safetensors.index.json";

std::string index_of(const std::string& map) {
  return "{\"metadata\": {\"total_size\": 16}, \"weight_map\": {" + map + "}}";
}

}  // namespace

TEST_CASE("one file is found by its path, by its name in a folder, and alone under another name") {
  const scratch_directory scratch;
  write_file(scratch / "other.safetensors", {"a", "b"}, 1);
  CHECK(mtp::io::tensor_files(scratch / "other.safetensors").tensors().size() == 2);
  CHECK(mtp::io::tensor_files(scratch.path()).tensors().size() == 2);
  write_file(scratch / "model.safetensors", {"c"}, 1);
  const mtp::io::tensor_files files(scratch.path());
  CHECK(files.tensors().size() == 1);
  CHECK(files.find("c") != nullptr);
  CHECK(files.find("a") == nullptr);
}

TEST_CASE("shards are read as one checkpoint") {
  const scratch_directory scratch;
  write_file(scratch / "one.safetensors", {"a", "b"}, 1);
  write_file(scratch / "two.safetensors", {"c"}, 2);
  put(scratch / index_name,
      index_of(R"("a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors")"));
  for (const auto& path : {scratch.path(), scratch / index_name}) {
    const mtp::io::tensor_files files(path);
    REQUIRE(files.tensors().size() == 3);
    float value = 0;
    const auto* const c = files.find("c");
    c->file->read(*c->info, 1, 1, reinterpret_cast<std::byte*>(&value));
    CHECK(value == 2);
  }
}

TEST_CASE("all that is wrong with an index is said at once") {
  const scratch_directory scratch;
  write_file(scratch / "one.safetensors", {"a", "b", "twice", "moved"}, 1);
  write_file(scratch / "two.safetensors", {"c", "twice"}, 2);
  put(scratch / index_name,
      index_of(R"("a": "one.safetensors", "c": "two.safetensors", "twice": "one.safetensors",
                  "moved": "two.safetensors", "gone": "three.safetensors",
                  "lost": "one.safetensors")"));
  const std::string message = refused(scratch.path());
  check_says(message, "missing file: three.safetensors");
  check_says(message, "twice is in one.safetensors and in two.safetensors");
  check_says(message, "moved: the index says two.safetensors, it is in one.safetensors");
  check_says(message, "lost: the index says one.safetensors, which does not have it");
  check_says(message, "b of one.safetensors is not in the index");
  CHECK(message.find("gone:") == std::string::npos);  // its file is missing, which is said once
}

TEST_CASE("an index cannot lead out of its folder") {
  const scratch_directory scratch;
  std::filesystem::create_directory(scratch / "inner");
  write_file(scratch / "secret.safetensors", {"a"}, 1);
  for (const std::string name : {"../secret.safetensors",
                                 "/etc/secret.safetensors",
                                 "x/../../secret.safetensors",
                                 "..",
                                 "",
                                 ".hidden.safetensors",
                                 "a\\\\b.safetensors",
                                 "secret.bin"}) {
    put(scratch / "inner" / index_name, index_of("\"a\": \"" + name + "\""));
    check_says(refused(scratch / "inner"), "expected the name of a file *.safetensors in the same");
  }
  put(scratch / "inner" / index_name, index_of("\"a\": 5"));
  check_says(refused(scratch / "inner"), "got 5");
}

TEST_CASE("an index that is not one is refused") {
  const scratch_directory scratch;
  const auto refuses = [&](const std::string& text, const std::string& part) {
    put(scratch / index_name, text);
    check_says(refused(scratch.path()), part);
  };
  refuses("", "not valid JSON");
  refuses("[]", "expected an object, got array");
  refuses("{}", "expected an object \"weight_map\"");
  refuses(R"({"weight_map": []})", "expected an object \"weight_map\"");
  refuses(R"({"weight_map": {}})", "expected an object \"weight_map\"");
  refuses(R"({"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}})", "duplicate key 'a'");
  refuses(R"({"weight_map": {"a": "x.safetensors"}} rest)", "not valid JSON");
  refuses(R"({"weight_map": {"a": "x.safetensors"}})" + std::string(1, '\0') + "x", "a NUL byte");
  refuses("{\"x\": " + std::string(100, '[') + std::string(100, ']') + "}",
          "nesting of less than 32");
  refuses(index_of(R"("a": "gone.safetensors")"), "missing file: gone.safetensors");
}

TEST_CASE("a folder in which it is not clear what to read is refused") {
  const scratch_directory scratch;
  check_says(refused(scratch.path()), "and 0 other files");
  write_file(scratch / "one.safetensors", {"a"}, 1);
  write_file(scratch / "two.safetensors", {"b"}, 1);
  check_says(refused(scratch.path()), "and 2 other files");
  write_file(scratch / "model.safetensors", {"a"}, 1);
  put(scratch / index_name, index_of(R"("a": "one.safetensors")"));
  check_says(refused(scratch.path()), "has both model.safetensors and");
  check_says(refused(scratch / "absent"), "absent");
}

}  // namespace mtp::test::io_pretrained_tensor_files_cases
