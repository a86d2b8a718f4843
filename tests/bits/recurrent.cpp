#include "runs.hpp"

void write_recurrent(const std::filesystem::path& path) {
  mtp::bits::write_kind<mtp::head_kind::recurrent>(path);
}
