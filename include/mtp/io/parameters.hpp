// Parameters of a model in a safetensors file: row by row, whatever the backend's layout.
#pragma once

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/io/describe.hpp"
#include "mtp/io/safetensors.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI::io {

namespace checkpoint_detail {

/// Elements [first, first + count) of a parameter in row-major order, read from the backend's
/// layout.
template <class S, class Backend>
void gather(const parameter_array<const S, Backend>& array,
            const parameter& p,
            index_t first,
            index_t count,
            S* to) {
  for (index_t i = 0; i < count; ++i) {
    const index_t at = first + i;
    to[i] = p.is_vector() ? array.vector(p)(at) : array.matrix(p)(at / p.inputs, at % p.inputs);
  }
}

inline std::vector<index_t> shape_of(const parameter& p) {
  return p.is_vector() ? std::vector<index_t>{p.outputs}
                       : std::vector<index_t>{p.outputs, p.inputs};
}

template <class Layout>
std::vector<std::pair<std::string, parameter>> list(const Layout& layout) {
  std::vector<std::pair<std::string, parameter>> all;
  layout.visit([&](const std::string& name, const parameter& p) { all.emplace_back(name, p); });
  return all;
}

template <class S, class Backend>
std::vector<S> host_copy(const S* data, index_t count) {
  std::vector<S> host(static_cast<std::size_t>(count));
  backend_traits<Backend>::copy_to_host(host.data(), data, host.size() * sizeof(S));
  return host;
}

/// The sources of one array of all parameters. `host` holds its storage and must outlive the
/// sources.
template <class S, class Backend, class Layout>
void add_sources(std::vector<tensor_source>& sources,
                 const Layout& layout,
                 const std::string& prefix,
                 std::shared_ptr<const std::vector<S>> host) {
  for (const auto& [name, p] : list(layout)) {
    sources.push_back({prefix + name,
                       element_of<S>(),
                       shape_of(p),
                       [host, place = p](index_t first, index_t count, std::byte* to) {
                         std::vector<S> row(static_cast<std::size_t>(count));
                         const parameter_array<const S, Backend> array(
                             host->data(), static_cast<index_t>(host->size()));
                         gather<S, Backend>(array, place, first, count, row.data());
                         std::memcpy(to, row.data(), row.size() * sizeof(S));
                       }});
  }
}

/// Reads what add_sources wrote into host memory in the backend's layout.
template <class S, class Backend, class Layout>
std::vector<S> read_array(const safetensors_file& file,
                          const Layout& layout,
                          const std::string& prefix) {
  std::vector<S> host(static_cast<std::size_t>(layout.storage), S{0});
  const parameter_array<S, Backend> array(host.data(), layout.storage);
  for (const auto& [name, p] : list(layout)) {
    std::vector<S> values(static_cast<std::size_t>(p.count()));
    file.read(*file.find(prefix + name), 0, p.count(), reinterpret_cast<std::byte*>(values.data()));
    for (index_t i = 0; i < p.count(); ++i) {
      S& to = p.is_vector() ? array.vector(p)(i) : array.matrix(p)(i / p.inputs, i % p.inputs);
      to = values[static_cast<std::size_t>(i)];
    }
  }
  return host;
}

/// Copies host memory in the backend's layout to the backend, rounded to its element type.
template <class S, class Backend, class Sum>
void put(parameter_array<S, Backend> to, const std::vector<Sum>& from) {
  if constexpr (std::is_same_v<S, Sum>) {
    backend_traits<Backend>::copy_from_host(to.data(), from.data(), from.size() * sizeof(S));
  } else {
    const std::vector<S> rounded(from.begin(), from.end());
    backend_traits<Backend>::copy_from_host(to.data(), rounded.data(), rounded.size() * sizeof(S));
  }
}

/// The entries "config.*" of a file that differ from `config` and change the meaning of its
/// parameters, one line for each. The longest sequence does not, nor does the head if the model
/// reads only the trunk.
inline std::string other_configuration(const safetensors_file& file, const model_config& config) {
  std::ostringstream lines;
  const bool trunk_alone = config.prediction.kind.parameters == head_parameters::none;
  visit_differences(
      config,
      file.metadata(),
      [&](std::string_view name, const std::string& expected, const std::string& got) {
        bool of_head = false;
        visit_fields(config.prediction,
                     [&](std::string_view field, const auto&) { of_head |= field == name; });
        if (!got.empty() && name != "max_position_embeddings" && !(of_head && trunk_alone)) {
          lines << "\n  config." << name << ": expected " << expected << ", got " << got;
        }
      });
  return lines.str();
}

/// A line for files whose tensors have the names of other programs.
inline std::string other_names(const safetensors_file& file) {
  for (const char* name : {"model.embed_tokens.weight",
                           "model.language_model.embed_tokens.weight",
                           "tok_embeddings.weight"}) {
    if (file.find(name) != nullptr) {
      return "\n  " + std::string(name) +
             " is a name of other programs, whose checkpoints io::load_pretrained reads";
    }
  }
  return "";
}

/// Throws one mtp::error that lists, after the lines of `wrong_entries`, every tensor that is
/// missing, unexpected, or of another shape or type.
template <class S, class Layout>
void check_tensors(const safetensors_file& file,
                   const std::filesystem::path& path,
                   const Layout& layout,
                   const std::vector<std::string>& prefixes,
                   bool extra_allowed,
                   const std::string& wrong_entries = "") {
  std::ostringstream wrong;
  wrong << wrong_entries;
  std::map<std::string, bool> expected;
  for (const auto& prefix : prefixes) {
    for (const auto& [name, p] : list(layout)) {
      const std::string full = prefix + name;
      expected[full] = true;
      const tensor_info* info = file.find(full);
      if (info == nullptr) {
        wrong << "\n  missing: " << full;
      } else if (info->type != element_of<S>()) {
        wrong << "\n  " << full << ": expected " << element_name(element_of<S>()) << ", got "
              << element_name(info->type);
      } else if (info->shape != shape_of(p)) {
        wrong << "\n  " << full << ": expected shape " << io::detail::shape_text(shape_of(p))
              << ", got " << io::detail::shape_text(info->shape);
      }
    }
  }
  for (const auto& info : file.tensors()) {
    if (!extra_allowed && !expected.contains(info.name)) {
      wrong << "\n  unexpected: " << info.name;
    }
  }
  check(
      wrong.str().empty(), "checkpoint: ", path.string(), " does not fit the model:", wrong.str());
}
}  // namespace checkpoint_detail

/// Reads the parameters of a model from a checkpoint, or from any safetensors file that has them
/// under the library's names, in f32 for models with f32 and bf16 elements. Other tensors are
/// ignored. Throws mtp::error, with nothing changed; the message lists all tensors that do not fit
/// and, if the file has the configuration that wrote it, all fields that give the parameters
/// another meaning. It points to load_pretrained where the names are those of other programs.
template <model_config Config, class Backend, scalar S>
void load_parameters(const std::filesystem::path& path, language_model<Config, Backend, S>& model) {
  namespace detail = checkpoint_detail;
  using sum_type = accumulate_t<S>;
  static_assert(
      is_whole<Config>,
      "load_parameters: ranks have parts of this model (tensor_parallel_size); load a whole one, "
      "and divide_parameters in <mtp/model/divide.hpp> gives the part of a rank");
  const safetensors_file file(path);
  static_cast<void>(file.verify());  // a file without a checksum is accepted
  detail::check_tensors<sum_type>(
      file,
      path,
      model.layout,
      {""},
      true,
      detail::other_configuration(file, Config) + detail::other_names(file));
  detail::put(model.values(), detail::read_array<sum_type, Backend>(file, model.layout, ""));
}

/// @cond
// A message for calls that match no declaration above.
template <class Call = void>
void load_parameters(mtp::detail::any, mtp::detail::any) {
  static_assert(mtp::detail::never<Call>, "load_parameters: expected a path and a language_model");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI::io
