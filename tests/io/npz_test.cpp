#include "mtp/io/npz.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/core/equality.hpp"

namespace mtp::test::io_npz_cases {

using testing::content;
using testing::put;
using testing::scratch_directory;

namespace {

// np.savez(file, a=np.arange(2, dtype="i4"), b=np.float32(2.5)), and np.savez_compressed(file,
// a=np.arange(2, dtype="i4")), both by NumPy 2.4.6.
const std::string saved_by_numpy =
    "504b03042d0000000000000021007b56b5f3ffffffffffffffff05001400612e6e707901001000880000000000"
    "00008800000000000000934e554d5059010076007b276465736372273a20273c6934272c2027666f727472616e"
    "5f6f72646572273a2046616c73652c20277368617065273a2028322c292c207d20202020202020202020202020"
    "202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020"
    "20200a0000000001000000504b03042d000000000000002100648c22c3ffffffffffffffff05001400622e6e70"
    "790100100084000000000000008400000000000000934e554d5059010076007b276465736372273a20273c6634"
    "272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028292c207d20202020"
    "202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020"
    "202020202020202020202020200a00002040504b01022d032d0000000000000021007b56b5f388000000880000"
    "00050000000000000000000000800100000000612e6e7079504b01022d032d000000000000002100648c22c384"
    "000000840000000500000000000000000000008001bf000000622e6e7079504b05060000000002000200660000"
    "007a0100000000";

const std::string deflated_by_numpy =
    "504b03042d0000000800000021007b56b5f3ffffffffffffffff05001400612e6e707901001000880000000000"
    "000049000000000000009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9369a2aea3a09e965f54529498"
    "179f5f94920a12774bcc294e058a17672416a402f91a463a9a3a0ab50a14002e062060046200504b01022d032d"
    "0000000800000021007b56b5f34900000088000000050000000000000000000000800100000000612e6e707950"
    "4b0506000000000100010033000000800000000000";

std::string of_hex(const std::string& digits) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

/// An archive of two arrays, as the library writes it.
std::string archive() {
  const scratch_directory folder;
  const tensor<token_t, extents<2>, cpu> tokens({}, {7, -8});   // [2]
  const tensor<float, extents<2, 2>, cpu> x({}, {1, 2, 3, 4});  // [2, 2]
  io::npz_writer writer(folder / "x.npz");
  writer.add("tokens", tokens);
  writer.add("x", x);
  writer.commit();
  return content(folder / "x.npz");
}

/// What opening the bytes and loading both arrays says; empty if it works.
std::string refusal(const std::string& bytes) {
  const scratch_directory folder;
  put(folder / "x.npz", bytes);
  try {
    const io::npz_file file(folder / "x.npz");
    const auto tokens = file.load<token_t, dims<1>, cpu>("tokens");  // [2]
    const auto x = file.load<float, dims<2>, cpu>("x");              // [2, 2]
    CHECK(tokens.to_host() == std::vector<token_t>{7, -8});
    CHECK(x.to_host() == std::vector<float>{1, 2, 3, 4});
    return "";
  } catch (const error& refused) {
    return refused.what();
  }
}

std::string with_bytes(std::string bytes, std::size_t at, const std::string& other) {
  return bytes.replace(at, other.size(), other);
}

bool says(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("an archive that NumPy wrote is read") {
  const scratch_directory folder;
  put(folder / "x.npz", of_hex(saved_by_numpy));
  const io::npz_file file(folder / "x.npz");
  CHECK(file.names() == std::vector<std::string>{"a", "b"});
  CHECK(file.contains("b"));
  CHECK(!file.contains("c"));
  CHECK(file.load<token_t, dims<1>, cpu>("a").to_host() == std::vector<token_t>{0, 1});
  CHECK(file.load<float, extents<>, cpu>("b").to_host() == std::vector<float>{2.5f});
  CHECK_THROWS_AS(static_cast<void>(file.load<float, extents<>, cpu>("c")), error);
  CHECK_THROWS_AS(static_cast<void>(file.load<double, extents<>, cpu>("b")), error);
}

TEST_CASE("deflated arrays are refused by name, and the archive's names are still there") {
  const scratch_directory folder;
  put(folder / "x.npz", of_hex(deflated_by_numpy));
  const io::npz_file file(folder / "x.npz");
  CHECK(file.names() == std::vector<std::string>{"a"});
  std::string message;
  try {
    static_cast<void>(file.load<token_t, dims<1>, cpu>("a"));
  } catch (const error& refused) {
    message = refused.what();
  }
  CHECK(says(message, "'a.npy' is deflated, as np.savez_compressed writes it"));
}

TEST_CASE("what was written is read, and the same arrays give the same bytes") {
  CHECK(refusal(archive()).empty());
  CHECK(archive() == archive());
  const scratch_directory folder;
  io::npz_writer(folder / "empty.npz").commit();
  CHECK(io::npz_file(folder / "empty.npz").names().empty());
  {
    io::npz_writer unfinished(folder / "gone.npz");
    const tensor<float, extents<1>, cpu> x({}, {1});  // [1]
    unfinished.add("x", x);
  }
  CHECK(folder.entries() == 1);
}

TEST_CASE("a name twice, and no name, are refused, and the rest is written") {
  const scratch_directory folder;
  const tensor<float, extents<1>, cpu> x({}, {1}), y({}, {2});  // [1]
  io::npz_writer writer(folder / "x.npz");
  writer.add("w", x);
  CHECK_THROWS_AS(writer.add("w", y), error);
  CHECK_THROWS_AS(writer.add("", y), error);
  writer.commit();
  const io::npz_file file(folder / "x.npz");
  CHECK(file.names().size() == 1);
  CHECK(file.load<float, extents<1>, cpu>("w").to_host() == std::vector<float>{1});
}

TEST_CASE("an archive that is cut off anywhere, or goes on, is refused") {
  const std::string whole = archive();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    REQUIRE(!refusal(whole.substr(0, size)).empty());
  }
  CHECK(!refusal(whole + "x").empty());
  CHECK(!refusal("x" + whole).empty());
  CHECK(!refusal(whole + whole).empty());
}

TEST_CASE("a wrong bit anywhere is refused, or is in a field that decides nothing") {
  const std::string whole = archive();
  int harmless = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int bit : {0, 3, 7}) {
      CAPTURE(at);
      CAPTURE(bit);
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      harmless += refusal(changed).empty() ? 1 : 0;
    }
  }
  // Versions, flags, times and attributes; the local header's copies of sizes and checksum.
  CHECK(harmless < 2 * 3 * 50);
}

TEST_CASE("archives that claim too much, or what is not read, are refused with the reason") {
  const std::string whole = archive();
  const std::size_t end = whole.size() - 22, directory = whole.find("PK\x01\x02");
  CHECK(says(refusal("not an archive at all, but long enough"), "no end record"));
  CHECK(says(refusal("short"), "it has 5 bytes"));
  CHECK(says(refusal(with_bytes(whole, end + 10, std::string("\xff\xff"))), "zip64"));
  CHECK(says(refusal(with_bytes(whole, end + 4, std::string("\x01"))), "several disks"));
  CHECK(says(refusal(with_bytes(whole, end + 16, std::string("\xf0\xff\xff\x7f"))), "claims"));
  CHECK(says(refusal(with_bytes(whole, directory + 20, std::string("\xff\xff\xff\xff"))), "zip64"));
  CHECK(
      says(refusal(with_bytes(whole, directory + 20, std::string("\xff\xff\xff\x7f"))), "overlap"));
  CHECK(says(refusal(with_bytes(whole, directory + 8, std::string("\x01"))), "encrypted"));
  CHECK(says(refusal(with_bytes(whole, directory + 10, std::string("\x0c"))), "method 12"));
  // Both entries in one place.
  const std::size_t second = whole.find("PK\x01\x02", directory + 4);
  CHECK(
      says(refusal(with_bytes(whole, second + 42, std::string("\x00\x00\x00\x00", 4))), "overlap"));
}

}  // namespace mtp::test::io_npz_cases
