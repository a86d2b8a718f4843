#include "runs.hpp"

void write_sequential(const std::filesystem::path& path) {
  mtp::bits::write_kind<mtp::head_kind::sequential>(path);
}
