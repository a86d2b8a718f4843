// Bytes as an .npy file, as an .npz file, and as the array in an .npz file.
#pragma once

#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <span>
#include <string>

#include "fuzz/input.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/core/equality.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/io/npy.hpp"
#include "mtp/io/npz.hpp"

namespace mtp::fuzz::npy_harness {

inline std::filesystem::path file_of(const char* name) {
  return std::filesystem::temp_directory_path() / ("mtp-fuzz-" + std::to_string(::getpid()) + name);
}

inline void put(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

/// load(element, shape) gives an array as a tensor of that type, or throws mtp::error. What it
/// gives once it gives again, and it survives being saved. The number of types that it is given as.
template <class Load>
int check_array(const Load& load) {
  int taken = 0;
  const auto as = [&]<class Element, class Shape>(Element, Shape) {
    taken += accepted([&] {
      const auto x = load.template operator()<Element, Shape>();
      promise(x == load.template operator()<Element, Shape>(), "an array is loaded twice alike");
      const auto path = file_of("-again.npy");
      io::save_npy(path, x);
      promise(x == io::load_npy<Element, Shape, cpu>(path), "a saved array is the one that was");
      std::filesystem::remove(path);
    });
  };
  const auto as_shapes = [&]<class Element>(Element element) {
    as(element, extents<>{});
    as(element, dims<1>{0});
    as(element, dims<2>{0, 0});
    as(element, dims<3>{0, 0, 0});
  };
  as_shapes(double{});
  as_shapes(float{});
  as_shapes(std::int64_t{});
  as_shapes(std::int32_t{});
  as_shapes(std::uint8_t{});
  promise(taken <= 1, "an array has one element type and one rank");
  return taken;
}

/// An open archive names its arrays, each once, and gives nothing else.
inline void check_archive(const io::npz_file& file) {
  std::set<std::string> seen;
  for (const std::string& name : file.names()) {
    promise(seen.insert(name).second, "no two arrays have one name");
    promise(file.contains(name), "an array is found under its name");
    check_array([&]<class Element, class Shape>() { return file.load<Element, Shape, cpu>(name); });
  }
  const std::string other = seen.empty() ? "x" : *seen.rbegin() + "x";
  promise(!file.contains(other), "no other array is found");
}

/// A stored zip archive with the bytes as its only entry, all its checksums right.
inline void put_archive(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
  io::detail::crc32 crc;
  crc.update(std::as_bytes(bytes));
  const std::string name = "a.npy";
  const auto size = static_cast<std::uint64_t>(bytes.size());
  io::detail::zip_record local(io::detail::zip_local_bytes);
  io::detail::zip_record central(io::detail::zip_central_bytes), end(io::detail::zip_end_bytes);
  local.put(0, 4, io::detail::zip_local);
  central.put(0, 4, io::detail::zip_central);
  for (const auto& [record, at] :
       {std::pair{&local, std::size_t{14}}, {&central, std::size_t{16}}}) {
    record->put(at, 4, crc.digest());
    record->put(at + 4, 4, size);
    record->put(at + 8, 4, size);
    record->put(at + 12, 2, name.size());
  }
  end.put(0, 4, io::detail::zip_end);
  end.put(8, 2, 1);
  end.put(10, 2, 1);
  end.put(12, 4, io::detail::zip_central_bytes + name.size());
  end.put(16, 4, io::detail::zip_local_bytes + name.size() + size);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const auto write = [&](std::span<const std::byte> part) {
    file.write(reinterpret_cast<const char*>(part.data()),
               static_cast<std::streamsize>(part.size()));
  };
  write(local.bytes());
  write(std::as_bytes(std::span(name)));
  write(std::as_bytes(bytes));
  write(central.bytes());
  write(std::as_bytes(std::span(name)));
  write(end.bytes());
}

/// The bytes alone, and within an archive, are the same array or none.
inline void fuzz_one(std::span<const std::uint8_t> bytes) {
  static const std::filesystem::path path = file_of(".npy");
  put(path, bytes);
  const int alone = check_array(
      [&]<class Element, class Shape>() { return io::load_npy<Element, Shape, cpu>(path); });
  accepted([&] { check_archive(io::npz_file(path)); });

  put_archive(path, bytes);
  promise(accepted([&] {
            const io::npz_file file(path);
            promise(file.contains("a"), "an archive holds its array");
            const int within = check_array(
                [&]<class Element, class Shape>() { return file.load<Element, Shape, cpu>("a"); });
            promise(within == alone, "an array in an archive is the one in a file");
          }),
          "an archive of one file is opened");
  std::filesystem::remove(path);
}

}  // namespace mtp::fuzz::npy_harness

namespace mtp::fuzz {
/// What a replay and a fuzzer call. Each harness has a namespace of its own, because functions of
/// one name in several files of a program would be taken for one function.
namespace harness = npy_harness;
}  // namespace mtp::fuzz
