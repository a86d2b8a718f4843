#include "runs.hpp"

void write_shared_logit(const std::filesystem::path& path) {
  mtp::bits::write_kind<mtp::head_kind::shared_logit>(path);
}
