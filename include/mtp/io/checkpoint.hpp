// Saves and resumes runs. All of a run is in one safetensors file, which is written whole or not at
// all.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/io/describe.hpp"
#include "mtp/io/first_rank.hpp"
#include "mtp/io/model_parts.hpp"
#include "mtp/io/parameters.hpp"
#include "mtp/io/rank_arrays.hpp"
#include "mtp/io/safetensors.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/train/run_description.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::inline MTP_ABI::io {

namespace checkpoint_detail {

using mtp::detail::describe_run;
using mtp::detail::later_entries;
using mtp::detail::text_map;
using mtp::detail::to_text;

/// Throws unless the values are the same.
inline void check_value(const std::filesystem::path& path,
                        const std::string& key,
                        const std::string& expected,
                        const std::string& found) {
  check(found == expected,
        "checkpoint: ",
        path.string(),
        ": ",
        key,
        " differs: expected ",
        expected,
        ", got ",
        found);
}

/// Throws unless the file has every entry of `wanted` with the same value; the message names the
/// first that differs.
inline void check_entries(const safetensors_file& file,
                          const std::filesystem::path& path,
                          const text_map& wanted) {
  for (const auto& [key, value] : wanted) {
    const auto found = file.metadata().find(key);
    check(found != file.metadata().end(),
          "checkpoint: ",
          path.string(),
          " has no entry \"",
          key,
          "\"; is it a checkpoint?");
    check_value(path, key, value, found->second);
  }
}

/// Throws unless the file describes `config`; the message names every entry that differs.
inline void check_configuration(const safetensors_file& file,
                                const std::filesystem::path& path,
                                const model_config& config) {
  std::ostringstream lines;
  visit_differences(config,
                    file.metadata(),
                    [&](const char* name, const std::string& expected, const std::string& got) {
                      check(!got.empty(),
                            "checkpoint: ",
                            path.string(),
                            " has no entry \"config.",
                            name,
                            "\"; is it a checkpoint?");
                      lines << "\n  config." << name << " differs: expected " << expected
                            << ", got " << got;
                    });
  check(lines.str().empty(), "checkpoint: ", path.string(), " is of another model:", lines.str());
}

inline std::int64_t read_count(const safetensors_file& file,
                               const std::filesystem::path& path,
                               const std::string& key) {
  const auto found = file.metadata().find(key);
  std::int64_t value = -1;
  if (found != file.metadata().end()) {
    const std::string& text = found->second;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    value = result.ec == std::errc() && result.ptr == text.data() + text.size() ? value : -1;
  }
  check(value >= 0,
        "checkpoint: ",
        path.string(),
        ": the entry \"",
        key,
        "\" is not a number of steps");
  return value;
}

/// The layout of a run's arrays, of which a rank may have a stage or a shard.
template <class Model, class S>
inline constexpr auto& layout_of =
    language_model<Model::config, typename Model::backend_type, S>::layout;

/// The layout of the model of a file. A run's arrays may be a rank's part of it.
template <class Model, class S>
inline constexpr auto file_layout_of =
    model_layout<tensor_parallel(Model::config, 1), typename Model::backend_type, S>::make();

/// A part of an array of the rank.
template <class T, class Backend>
parameter_array<T, Backend> part_of(parameter_array<T, Backend> array,
                                    const parameter_range& part) {
  return {array.data() + part.local, part.count};
}

/// The whole array of which each rank of a model has a part, on rank 0 of them.
template <class Model, class T>
std::shared_ptr<std::vector<T>> gathered(const std::vector<T>& part, tensor_group& ranks) {
  auto whole = std::make_shared<std::vector<T>>(static_cast<std::size_t>(
      ranks.rank() == 0 ? mtp::detail::whole_layout<Model>::make().storage : 0));
  mtp::detail::gather_array<Model, T>(*whole, part, ranks);
  return whole;
}

/// save_checkpoint with additional entries.
template <class Run>
void save(const std::filesystem::path& path, Run& run, text_map metadata) {
  namespace detail = checkpoint_detail;
  using model_type = typename Run::model_type;
  using Backend = typename model_type::backend_type;
  using S = typename Run::scalar_type;
  using sum_type = accumulate_t<S>;
  using array_type = std::vector<sum_type>;
  constexpr auto& layout = layout_of<model_type, S>;
  constexpr auto count = static_cast<std::size_t>(layout.storage);
  auto& group = run.group();
  auto& optimizer = run.optimizer();
  std::array<std::shared_ptr<array_type>, 3> whole;  // on rank 0
  io::detail::on_first_rank(group, [&](auto&) {
    for (auto& array : whole) array = std::make_shared<array_type>(run.is_divided() ? count : 0);
    if (!run.is_divided()) return;
    // What no rank has a master of is its own master, or is not trained.
    for (const parameter_range& part : run.value_parts()) {
      const auto own = part_of(run.model().values(), part);
      const auto values = detail::host_copy<S, Backend>(own.data(), own.count());
      std::transform(values.begin(), values.end(), whole[0]->begin() + part.begin, [](S value) {
        return static_cast<sum_type>(value);
      });
    }
  });
  const auto gather = [&](std::size_t n, const auto& read) {
    if (!run.is_divided()) {  // every rank has everything
      if (whole[n]) *whole[n] = read();
      return;
    }
    const array_type part = read();
    for (const parameter_range& own : run.saved_parts()) {
      io::detail::gather_parts<sum_type>(
          group,
          whole[n] ? std::span(*whole[n]) : std::span<sum_type>(),
          std::span(part).subspan(static_cast<std::size_t>(own.local),
                                  static_cast<std::size_t>(own.count)),
          own.begin);
    }
  };
  const auto on_host = [](parameter_array<sum_type, Backend> array) {
    return detail::host_copy<sum_type, Backend>(array.data(), array.count());
  };
  using optimizer_type = std::remove_reference_t<decltype(optimizer)>;
  if (!run.is_divided() || optimizer_type::has_master || !Run::has_all_values) {
    gather(0, [&] { return optimizer.master_on_host(run.model()); });
  }
  gather(1, [&] { return on_host(optimizer.first()); });
  gather(2, [&] { return on_host(optimizer.second()); });
  if constexpr (io::detail::has_a_part<Run>) {
    for (auto& array : whole) {
      if (array != nullptr) array = gathered<model_type>(*array, run.ranks());
    }
  }
  const auto write = [&](auto& life) {
    constexpr std::array prefixes{"", "optimizer.first.", "optimizer.second."};
    constexpr auto& in_file = file_layout_of<model_type, S>;
    std::vector<tensor_source> sources;
    for (std::size_t n = 0; n < whole.size(); ++n) {
      detail::add_sources<sum_type, Backend>(sources, in_file, prefixes[n], whole[n]);
    }
    for (auto& source : sources) {
      source.read = [read = std::move(source.read), &life](
                        index_t first, index_t elements, std::byte* to) {
        life();
        read(first, elements, to);
      };
    }
    metadata.merge(detail::describe_run(run));
    metadata.merge(describe(model_type::config));
    for (const auto& entry : detail::later_entries(run)) {
      metadata.emplace(entry.key, entry.value);
    }
    metadata.emplace("format", "mtp checkpoint 1");
    metadata.emplace("state.step", detail::to_text(run.state().step));
    metadata.emplace("state.updates", detail::to_text(optimizer.updates()));
    metadata.emplace("state.skipped", detail::to_text(run.state().skipped));
    metadata.emplace("state.skipped_in_a_row", detail::to_text(run.state().skipped_in_a_row));
    write_safetensors(path, sources, metadata);
  };
  io::detail::on_first_rank(group,
                            [&](auto& life) { io::detail::on_first_part(run, life, write); });
}

/// Throws unless a file is a checkpoint of this model and this run, at any step.
template <class Run>
void check_run(const safetensors_file& file, const std::filesystem::path& path, const Run& run) {
  namespace detail = checkpoint_detail;
  using model_type = typename Run::model_type;
  using S = typename Run::scalar_type;
  check(file.verify(), "checkpoint: ", path.string(), " has no checksum; is it a checkpoint?");
  detail::check_entries(file, path, {{"format", "mtp checkpoint 1"}});
  detail::check_configuration(file, path, model_type::config);
  detail::check_tensors<accumulate_t<S>>(file,
                                         path,
                                         file_layout_of<model_type, S>,
                                         {"", "optimizer.first.", "optimizer.second."},
                                         false);
  for (const auto& entry : detail::later_entries(run)) {
    const auto found = file.metadata().find(entry.key);
    detail::check_value(path,
                        entry.key,
                        entry.value,
                        found != file.metadata().end() ? found->second : entry.where_missing);
  }
  detail::check_entries(file, path, detail::describe_run(run));
}

/// load_checkpoint.
template <class Run>
void load(const std::filesystem::path& path, Run& run) {
  namespace detail = checkpoint_detail;
  using model_type = typename Run::model_type;
  using Backend = typename model_type::backend_type;
  using S = typename Run::scalar_type;
  using sum_type = accumulate_t<S>;
  constexpr auto& layout = layout_of<model_type, S>;
  auto& group = run.group();
  std::array<std::int64_t, 4> counters{};      // step, skipped, skipped in a row, updates
  std::array<std::vector<sum_type>, 3> whole;  // on rank 0
  const auto read = [&] {
    const safetensors_file file(path);
    detail::check_run(file, path, run);
    counters = {detail::read_count(file, path, "state.step"),
                detail::read_count(file, path, "state.skipped"),
                detail::read_count(file, path, "state.skipped_in_a_row"),
                detail::read_count(file, path, "state.updates")};
    constexpr std::array prefixes{"", "optimizer.first.", "optimizer.second."};
    for (std::size_t n = 0; n < whole.size(); ++n) {
      whole[n] = io::detail::own_part(
          run,
          detail::read_array<sum_type, Backend>(file, file_layout_of<model_type, S>, prefixes[n]));
    }
  };
  io::detail::on_first_rank(group, [&](auto&) { io::detail::on_every_part(run, read); });
  if (group.size() > 1) group.broadcast(std::span<std::int64_t>(counters), 0);
  auto& optimizer = run.optimizer();
  const auto values = run.value_parts();
  const auto moments = run.optimizer_parts();
  const auto spread = [&](std::size_t n, const auto& take) {
    io::detail::spread<sum_type>(group, layout.storage, std::span(whole[n]), take);
  };
  // No allocation from here on, which could fail with half of it done.
  const auto take =
      [](const auto& parts, const auto& array, index_t first, std::span<const sum_type> piece) {
        for (const parameter_range& part : parts) {
          io::detail::take_piece(part_of(array, part), part.begin, first, piece);
        }
      };
  spread(0, [&](index_t first, std::span<const sum_type> piece) {
    take(values, run.model().values(), first, piece);
    take(moments, optimizer.master(run.model()), first, piece);
  });
  spread(1, [&](index_t first, std::span<const sum_type> piece) {
    take(moments, optimizer.first(), first, piece);
  });
  spread(2, [&](index_t first, std::span<const sum_type> piece) {
    take(moments, optimizer.second(), first, piece);
  });
  optimizer.set_updates(counters[3]);
  run.set_state({counters[0], counters[1], counters[2]});
}

}  // namespace checkpoint_detail

/// Writes parameters, moments and state of a run. The same run gives the same bytes. Parameters are
/// written in the precision of training: f32 for a model with bf16 elements. Throws mtp::error if
/// writing fails; an earlier checkpoint is then unchanged.
///
/// Of several ranks all call it. Rank 0 writes, and needs room for all moments and masters; the
/// others send theirs piece by piece. The bytes do not depend on the number of ranks. If writing
/// fails, all ranks throw. Of a model with a tensor_parallel_size, the first of the ranks that have
/// its parts writes the whole of it: any number of ranks goes on from the file.
template <model_config Config, class Backend, scalar S, class Element, class Communicator>
void save_checkpoint(const std::filesystem::path& path,
                     trainer<Config, Backend, S, Element, Communicator>& run) {
  checkpoint_detail::save(path, run, {});
}

/// Restores a run that save_checkpoint wrote: its next steps have the bits of a run that was never
/// interrupted. Throws mtp::error, with nothing changed, for a file that is damaged or of another
/// model, and for a run with other settings, other names of schedules or another text. A file from
/// any backend is accepted. A file without names of schedules is taken to use the library's own.
///
/// Of several ranks all call it, and rank 0 alone reads the file. Any number of ranks may have
/// written it. Of a model with a tensor_parallel_size, one rank for each part reads it.
template <model_config Config, class Backend, scalar S, class Element, class Communicator>
void load_checkpoint(const std::filesystem::path& path,
                     trainer<Config, Backend, S, Element, Communicator>& run) {
  checkpoint_detail::load(path, run);
}

/// @cond
// Messages for calls that match no declaration above.
template <class Call = void>
void save_checkpoint(mtp::detail::any, mtp::detail::any) {
  static_assert(mtp::detail::never<Call>,
                "save_checkpoint: expected a path and a trainer that may change");
}
template <class Call = void>
void load_checkpoint(mtp::detail::any, mtp::detail::any) {
  static_assert(mtp::detail::never<Call>,
                "load_checkpoint: expected a path and a trainer; a model alone is read by "
                "load_parameters");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI::io
