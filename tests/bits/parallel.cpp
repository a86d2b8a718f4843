#include "runs.hpp"

void write_parallel(const std::filesystem::path& path) {
  mtp::bits::write_kind<mtp::head_kind::parallel>(path);
}
