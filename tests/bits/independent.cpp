#include "runs.hpp"

void write_independent(const std::filesystem::path& path) {
  mtp::bits::write_kind<mtp::head_kind::independent>(path);
}
