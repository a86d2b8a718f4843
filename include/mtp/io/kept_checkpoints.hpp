// Earlier checkpoints of a run beside the latest one, for the day when the latest is damaged.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/safetensors.hpp"

namespace mtp::inline MTP_ABI::io {

/// The name under which the checkpoint of a step is kept next to the latest one:
/// "run.step-120.safetensors" next to "run.safetensors".
inline std::filesystem::path kept_checkpoint(const std::filesystem::path& latest,
                                             std::int64_t step) {
  auto name = latest.stem();
  name += ".step-" + checkpoint_detail::to_text(step);
  name += latest.extension();
  return latest.parent_path() / name;
}

namespace checkpoint_detail {

/// The kept checkpoints next to `latest` by their steps, the newest first. Other files, and a
/// folder that cannot be read, have none.
inline std::map<std::int64_t, std::filesystem::path, std::greater<>> kept_by_step(
    const std::filesystem::path& latest) {
  std::map<std::int64_t, std::filesystem::path, std::greater<>> kept;
  const auto folder = latest.has_parent_path() ? latest.parent_path() : ".";
  const std::string mark = latest.stem().string() + ".step-";
  std::error_code ignored;
  for (const auto& name : detail::names_in(folder, ignored)) {
    const std::string text = name.string();
    std::int64_t step = -1;
    if (text.starts_with(mark)) {
      std::from_chars(text.data() + mark.size(), text.data() + text.size(), step);
    }
    const auto path = latest.parent_path() / name;
    if (step >= 0 && path == kept_checkpoint(latest, step)) kept.emplace(step, path);
  }
  return kept;
}

/// Gives the file the second name as well, or makes a copy where the file system cannot do that.
inline void link_or_copy(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::error_code ignored;
  std::filesystem::remove(to, ignored);
  if (::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), AT_SYMLINK_FOLLOW) == 0) return;
  const input_file file(from);
  atomic_file copy(to);
  std::vector<std::byte> bytes(std::size_t{1} << 20);
  for (std::uint64_t offset = 0; offset < file.size();) {
    bytes.resize(
        static_cast<std::size_t>((std::min<std::uint64_t>)(bytes.size(), file.size() - offset)));
    file.read_exactly(offset, bytes);
    copy.write(bytes);
    offset += bytes.size();
  }
  copy.commit();
}

}  // namespace checkpoint_detail

/// The step of a checkpoint; none if it cannot be read.
inline std::optional<std::int64_t> step_of_checkpoint(const std::filesystem::path& path) {
  try {
    return checkpoint_detail::read_count(safetensors_file(path), path, "state.step");
  } catch (const error&) {
    return std::nullopt;
  }
}

/// The kept checkpoints next to `latest`, the newest first.
inline std::vector<std::filesystem::path> kept_checkpoints(const std::filesystem::path& latest) {
  std::vector<std::filesystem::path> paths;
  for (const auto& [step, path] : checkpoint_detail::kept_by_step(latest)) paths.push_back(path);
  return paths;
}

namespace checkpoint_detail {

/// The kept checkpoints that rank 0 finds, on every rank.
template <class Trainer>
std::vector<std::filesystem::path> kept_on_first_rank(const std::filesystem::path& latest,
                                                      Trainer& run) {
  std::vector<std::filesystem::path> paths;
  std::string list;  // names, each with a zero behind it
  detail::on_first_rank(run.group(), [&](auto&) {
    for (const auto& path : kept_checkpoints(latest)) list += path.string() + '\0';
  });
  detail::broadcast_text(run.group(), list);
  for (std::size_t at = 0; at < list.size(); at += paths.back().native().size() + 1) {
    paths.emplace_back(list.c_str() + at);
  }
  return paths;
}

}  // namespace checkpoint_detail

/// save_checkpoint(latest, run), with `count` checkpoints in all: the one that is replaced stays
/// under the name of its step, and the oldest go. Checkpoints of this step and of later ones, which
/// an earlier attempt has left, go as well. A latest one that cannot be read is not kept. A count
/// of 1 keeps none and removes none. Throws mtp::error for a count below 1, and if writing fails:
/// the latest checkpoint and the kept ones are then unchanged, but for one that has a second name
/// already. Of several ranks, the path and the count of rank 0 are used.
template <class Trainer>
void save_and_keep(const std::filesystem::path& latest, Trainer& run, index_t count) {
  static_assert(
      is_whole<Trainer::model_type::config>,
      "save_and_keep: ranks have parts of this model (tensor_parallel_size); save_checkpoint and "
      "load_checkpoint are for all that they do");
  detail::on_first_rank(run.group(), [&](auto&) {
    check(count >= 1, "save_and_keep: expected a count of at least 1, got ", count);
    if (count == 1) return;
    const auto before = step_of_checkpoint(latest);
    if (before && *before < run.state().step) {
      checkpoint_detail::link_or_copy(latest, kept_checkpoint(latest, *before));
    }
  });
  checkpoint_detail::save(latest, run, {});
  detail::on_first_rank(run.group(), [&](auto&) {
    if (count == 1) return;
    index_t newer = 1;  // the latest
    for (const auto& [step, path] : checkpoint_detail::kept_by_step(latest)) {
      std::error_code ignored;  // it goes with the next one
      if (step >= run.state().step || newer >= count) {
        std::filesystem::remove(path, ignored);
      } else {
        ++newer;
      }
    }
  });
}

/// The result of load_newest_checkpoint.
struct newest_checkpoint {
  std::filesystem::path path;        ///< what was loaded
  std::vector<std::string> refused;  ///< why each newer one was not
};

/// load_checkpoint of the newest one that can be loaded: `latest`, or else one that save_and_keep
/// has kept. Throws mtp::error, with nothing changed, if there is none, with the reason of each. Of
/// several ranks all call it; the files are those that rank 0 sees.
template <class Trainer>
newest_checkpoint load_newest_checkpoint(const std::filesystem::path& latest, Trainer& run) {
  static_assert(Trainer::model_type::config.tensor_parallel_size == 1,
                "load_newest_checkpoint: ranks have parts of this model (tensor_parallel_size); "
                "save_checkpoint and "
                "load_checkpoint are for all that they do");
  newest_checkpoint found;
  std::vector<std::filesystem::path> paths = checkpoint_detail::kept_on_first_rank(latest, run);
  paths.insert(paths.begin(), latest);
  for (auto& path : paths) {
    try {
      checkpoint_detail::load(path, run);
      found.path = std::move(path);
      return found;
    } catch (const error& reason) {
      found.refused.emplace_back(reason.what());
    }
  }
  std::string reasons = found.refused.front();
  for (std::size_t i = 1; i < found.refused.size(); ++i) reasons += "\n" + found.refused[i];
  fail(reasons);
}

}  // namespace mtp::inline MTP_ABI::io
