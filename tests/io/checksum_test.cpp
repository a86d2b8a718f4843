#include "mtp/io/checksum.hpp"

#include <cstddef>
#include <cstdint>
#include <doctest/doctest.h>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mtp::test::io_checksum_cases {

namespace {

using mtp::io::to_hex;
using mtp::io::xxh64;

std::string hash(std::span<const std::byte> bytes, std::uint64_t seed = 0) {
  xxh64 sum(seed);
  sum.update(bytes);
  return to_hex(sum.digest());
}

std::string hash(std::string_view text, std::uint64_t seed = 0) {
  return hash(std::as_bytes(std::span(text)), seed);
}

std::vector<std::byte> pattern(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>((i * 7 + 3) & 0xffu);
  return bytes;
}

}  // namespace

// The expected values were computed with the reference implementation (xxHash, XXH64).
TEST_CASE("xxh64 gives the values of the reference implementation") {
  CHECK(hash("") == "ef46db3751d8e999");
  CHECK(hash("a") == "d24ec4f1a98c6e5b");
  CHECK(hash("abc") == "44bc2cf5ad770999");
  CHECK(hash("Nobody inspects the spammish repetition") == "fbcea83c8a378bf1");
  CHECK(hash("xxhash") == "32dd38952c4bc720");
  CHECK(hash("The quick brown fox jumps over the lazy dog") == "0b242d361fda71bc");
  CHECK(hash("", 0x9e3779b185ebca8du) == "0b303d920ec349df");
  CHECK(hash("xxhash", 0x13353e1u) == "b559b98d844e0635");
  // 0 to 3 stripes with every kind of rest, and many stripes.
  CHECK(hash(pattern(1)) == "1f25c8d0bc1f4bb6");
  CHECK(hash(pattern(3)) == "31d2363f52e564c9");
  CHECK(hash(pattern(4)) == "9bb64b7d66ee9fda");
  CHECK(hash(pattern(5)) == "c7608efddb7051fe");
  CHECK(hash(pattern(7)) == "9a7b149959ce60d8");
  CHECK(hash(pattern(8)) == "dab99d95c6f90092");
  CHECK(hash(pattern(12)) == "d52e407833af5133");
  CHECK(hash(pattern(15)) == "1b47cb8243cc8e32");
  CHECK(hash(pattern(31)) == "a2aa5f33cc4a6119");
  CHECK(hash(pattern(32)) == "23c3c17ef790fd97");
  CHECK(hash(pattern(33)) == "50a7cfc7ba588784");
  CHECK(hash(pattern(36)) == "c0b52b0dcc5e3f7f");
  CHECK(hash(pattern(44)) == "a4b19436ab40edb0");
  CHECK(hash(pattern(63)) == "5e3e54b431c7493c");
  CHECK(hash(pattern(64)) == "0eb64b3ef6eeb01f");
  CHECK(hash(pattern(65)) == "a383b724b2bd12f1");
  CHECK(hash(pattern(100)) == "a61f8d4c170fe531");
  CHECK(hash(pattern(1000)) == "5f235fa033f1a3fb");
  CHECK(hash(pattern(1000003)) == "293d731da18115ef");
  CHECK(hash(pattern(14), 0x9e3779b1u) == "51341a138b098941");
  CHECK(hash(pattern(222), 0x9e3779b1u) == "a0e106fbd1fdfc38");
}

TEST_CASE("xxh64 does not depend on how the bytes are split") {
  for (std::size_t size = 0; size <= 130; ++size) {
    const std::vector<std::byte> bytes = pattern(size);
    const std::string whole = hash(bytes);
    for (std::size_t step = 1; step <= size; ++step) {
      xxh64 sum;
      for (std::size_t at = 0; at < size; at += step) {
        sum.update(std::span(bytes).subspan(at, step < size - at ? step : size - at));
        sum.update({});
      }
      CHECK_MESSAGE(to_hex(sum.digest()) == whole, size, " bytes in steps of ", step);
    }
  }
}

TEST_CASE("xxh64 can be asked for its digest in between") {
  const std::vector<std::byte> bytes = pattern(100);
  xxh64 sum;
  sum.update(std::span(bytes).first(45));
  CHECK(to_hex(sum.digest()) == hash(std::span(bytes).first(45)));
  sum.update(std::span(bytes).subspan(45));
  CHECK(to_hex(sum.digest()) == hash(bytes));
}

TEST_CASE("xxh64 changes with every single bit") {
  std::vector<std::byte> bytes = pattern(75);
  const std::string before = hash(bytes);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto mask = static_cast<std::byte>(1u << bit % 8);
    bytes[bit / 8] ^= mask;
    CHECK_MESSAGE(hash(bytes) != before, "bit ", bit);
    bytes[bit / 8] ^= mask;
  }
}

TEST_CASE("to_hex writes 16 digits") {
  CHECK(to_hex(0) == "0000000000000000");
  CHECK(to_hex(0x0123456789abcdefu) == "0123456789abcdef");
}

}  // namespace mtp::test::io_checksum_cases
