#include "runs.hpp"

void write_none(const std::filesystem::path& path) {
  mtp::bits::write_kind<mtp::head_kind::none>(path);
}
