// Models whose parameters stay in a file, for inference with more parameters than there is memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/io/describe.hpp"
#include "mtp/io/file_map.hpp"
#include "mtp/io/parameters.hpp"
#include "mtp/io/safetensors.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/model/quantized_model.hpp"
#include "mtp/ops/quantize.hpp"

namespace mtp::inline MTP_ABI::io {

namespace mapped_detail {

inline constexpr std::string_view version_key = "mapped.version", version = "1",
                                  layout_key = "mapped.layout";

/// The formats of weights in 8 bits, and the ends of their tensors' names.
inline constexpr std::array<std::pair<quantized_format, std::string_view>, 3> formats{
    {{quantized_format::int8, ":int8"},
     {quantized_format::e4m3, ":e4m3"},
     {quantized_format::e4m3_transposed, ":e4m3_transposed"}}};

/// The name of a parameter's tensor in a format.
inline std::string name_in(const std::string& parameter, quantized_format format) {
  return parameter + std::string(formats[static_cast<std::size_t>(format)].second);
}

/// Elements of a tensor that holds `count` of `size` bytes: the next one is aligned as it is in
/// memory.
constexpr index_t padded(index_t count, index_t size) {
  return round_up(count, arena_alignment / size);
}

/// The entries of a file beside its tensors.
template <class Backend>
std::map<std::string, std::string> entries(const model_config& config) {
  static_assert(
      requires { backend_traits<Backend>::layout_name; },
      "mapped models: the backend has no layout_name, so its weights cannot be kept in files");
  auto made = describe(config);
  made.emplace(version_key, version);
  made.emplace(layout_key, backend_traits<Backend>::layout_name);
  return made;
}

/// The tensor of `bytes` bytes that fill(to) writes when they are wanted, in elements of a type,
/// and then forgets.
inline tensor_source source_of(std::string name,
                               element type,
                               index_t bytes,
                               std::function<void(std::vector<std::byte>& to)> fill) {
  const index_t size = element_size(type), count = padded(bytes / size, size);
  return {std::move(name),
          type,
          {count},
          [=, all = std::vector<std::byte>()](index_t first, index_t some, std::byte* to) mutable {
            if (first == 0) {
              all.assign(static_cast<std::size_t>(count * size), std::byte{0});
              fill(all);
            }
            std::memcpy(to, all.data() + first * size, static_cast<std::size_t>(some * size));
            if (first + some == count) all = {};
          }};
}

/// The same of bytes that are in memory.
inline tensor_source source_of(std::string name, element type, index_t bytes, const void* from) {
  const index_t size = element_size(type);
  return {std::move(name),
          type,
          {padded(bytes / size, size)},
          [=](index_t first, index_t some, std::byte* to) {
            const index_t begin = first * size, end = (first + some) * size;
            const index_t there = (std::max)((std::min)(end, bytes) - begin, index_t{0});
            std::memcpy(
                to, static_cast<const std::byte*>(from) + begin, static_cast<std::size_t>(there));
            std::memset(to + there, 0, static_cast<std::size_t>(end - begin - there));
          }};
}

/// The places of all parameters in a file, and where its elements and its weights in 8 bits are.
struct file_places {
  struct range {
    std::uint64_t begin = UINT64_MAX, end = 0;
    void add(const tensor_info& info) {
      begin = (std::min)(begin, info.begin);
      end = (std::max)(end, info.end);
    }
    bool is_empty() const { return begin >= end; }
    std::uint64_t size() const { return is_empty() ? 0 : end - begin; }
  };
  range elements, quantized;
  std::vector<parameter_place> list;
};

/// The places; adds what is wrong to `wrong`.
template <model_config Config, class Backend, scalar S>
file_places places_in(const safetensors_file& file, std::ostringstream& wrong) {
  using model_type = quantized_model<Config, Backend, S>;
  file_places made;
  std::set<std::string, std::less<>> expected;
  const auto find = [&](const std::string& name, element type, index_t bytes) {
    expected.insert(name);
    const tensor_info* const info = file.find(name);
    const std::vector<index_t> shape{padded(bytes / element_size(type), element_size(type))};
    if (info != nullptr && (info->type != type || info->shape != shape)) {
      wrong << "\n  " << name << ": expected " << element_name(type) << ' '
            << detail::shape_text(shape) << ", got " << element_name(info->type) << ' '
            << detail::shape_text(info->shape);
    }
    return info;
  };
  std::vector<std::array<const tensor_info*, 2>> found;  // elements and bytes of each parameter
  model_type::layout.visit([&](const std::string& name, const parameter& p) {
    parameter_place at{.offset = p.offset};
    const tensor_info* const whole =
        find(name, element_of<S>(), p.storage * static_cast<index_t>(sizeof(S)));
    if (whole != nullptr) made.elements.add(*whole);
    found.push_back({whole, nullptr});
    for (const auto& [format, ending] : formats) {
      if (!p.fits(format) || file.find(name_in(name, format)) == nullptr) continue;
      at.format = format;
      found.back()[1] = find(name_in(name, format),
                             element::u8,
                             quantized_weight_bytes<Backend>(p.outputs, p.inputs, format));
      made.quantized.add(*found.back()[1]);
      break;
    }
    if (whole == nullptr &&
        (found.back()[1] == nullptr || !model_type::may_lack_elements(p, at.format))) {
      wrong << "\n  missing: " << name;
    }
    made.list.push_back(at);
  });
  for (const tensor_info& info : file.tensors()) {
    if (!expected.contains(info.name)) wrong << "\n  unexpected: " << info.name;
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto& [whole, bytes] = found[i];
    if (whole != nullptr) {
      made.list[i].elements =
          static_cast<index_t>((whole->begin - made.elements.begin) / sizeof(S));
    }
    if (bytes != nullptr) {
      made.list[i].quantized = static_cast<index_t>(bytes->begin - made.quantized.begin);
    }
  }
  return made;
}

/// A range of a file's data as the memory of a model.
template <class Element, class Backend>
buffer<Element, Backend> memory_of(const safetensors_file& file, const file_places::range& range) {
  if (range.is_empty()) return buffer<Element, Backend>(0);
  std::byte* const data = file.map(range.begin, range.end);
  buffer<Element, Backend> memory(reinterpret_cast<Element*>(data),
                                  static_cast<index_t>(range.size() / sizeof(Element)),
                                  detail::unmap_file);
  check(reinterpret_cast<std::uintptr_t>(data) % arena_alignment == 0,
        "map_model: '",
        file.path().string(),
        "': the data are not at a multiple of ",
        arena_alignment,
        " bytes, as save_mapped writes them");
  return memory;
}

}  // namespace mapped_detail

/// Writes the parameters of a model, in elements or in 8 bits, as they are in memory, for
/// map_model. The file is a safetensors file whose tensors are the backend's storage of one
/// parameter each, so it is of one kind of processor (layout_name of the backend's traits). It is
/// written whole or not at all. Throws mtp::error as write_safetensors does.
template <model_config Config, class Backend, scalar S>
void save_mapped(const std::filesystem::path& path,
                 const inference_model<Config, Backend, S>& model) {
  static_assert(backend_traits<Backend>::is_host_memory,
                "save_mapped: the backend's weights are not in the memory of the host");
  std::vector<tensor_source> sources;
  const auto values = model.values();
  model.layout.visit([&](const std::string& name, const parameter& p) {
    if (const S* const elements = values.storage(p).data(); elements != nullptr) {
      sources.push_back(mapped_detail::source_of(
          name, element_of<S>(), p.storage * static_cast<index_t>(sizeof(S)), elements));
    }
    if (p.is_vector()) return;
    if (const auto w = values.matrix(p); w.quantized != nullptr) {
      sources.push_back(
          mapped_detail::source_of(mapped_detail::name_in(name, w.format),
                                   element::u8,
                                   quantized_weight_bytes<Backend>(p.outputs, p.inputs, w.format),
                                   w.quantized));
    }
  });
  write_safetensors(path, sources, mapped_detail::entries<Backend>(Config));
}

/// The options of map_model.
struct map_options {
  /// Reads the whole file first, and compares its checksum.
  bool verify = false;
};

/// The model of a file of save_mapped or convert_to_mapped, for inference. Its parameters stay in
/// the file: the system reads pages when they are touched, keeps those that it has memory for, and
/// drops others. So a mixture of experts takes memory for the experts that are chosen. Opening
/// takes no time, decoding allocates nothing, and text and logits are those of the model that was
/// saved, bit for bit.
///
///     io::save_mapped("model.mapped", model);
///     auto model = io::map_model<config, cpu, bf16>("model.mapped");
///     generator<config, cpu, bf16> generator(context, model);
///
/// Throws mtp::error for a file of another configuration (but for max_position_embeddings), element
/// type or layout of weights, for one that is not what save_mapped writes, and for a wrong
/// checksum if that is asked for. The file must not become shorter while the model lives: the
/// system ends a process that touches what is gone. Files that are replaced as a whole, as all
/// files of this library are, stay as they were.
template <model_config Config, class Backend, scalar S = float>
quantized_model<Config, Backend, S> map_model(const std::filesystem::path& path,
                                              const map_options& options = {}) {
  static_assert(backend_traits<Backend>::is_host_memory,
                "map_model: the backend's weights are not in the memory of the host");
  const safetensors_file file(path);
  const auto expected = mapped_detail::entries<Backend>(Config);
  for (const std::string_view key : {mapped_detail::version_key, mapped_detail::layout_key}) {
    const std::string& wanted = expected.at(std::string(key));
    const auto found = file.metadata().find(std::string(key));
    check(found != file.metadata().end(),
          "map_model: '",
          path.string(),
          "' has no entry \"",
          key,
          "\"; save_mapped and convert_to_mapped write such files");
    check(found->second == wanted,
          "map_model: '",
          path.string(),
          "': ",
          key,
          " differs: expected ",
          wanted,
          ", got ",
          found->second);
  }
  std::ostringstream wrong;
  wrong << checkpoint_detail::other_configuration(file, Config);
  auto places = mapped_detail::places_in<Config, Backend, S>(file, wrong);
  check(
      wrong.str().empty(), "map_model: '", path.string(), "' does not fit the model:", wrong.str());
  check(!options.verify || file.verify(),
        "map_model: '",
        path.string(),
        "' has no checksum to verify");
  return quantized_model<Config, Backend, S>(
      mapped_detail::memory_of<S, Backend>(file, places.elements),
      mapped_detail::memory_of<std::byte, Backend>(file, places.quantized),
      std::move(places.list));
}

}  // namespace mtp::inline MTP_ABI::io
