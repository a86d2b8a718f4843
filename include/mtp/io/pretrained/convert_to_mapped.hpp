// Makes a file for io::map_model of a checkpoint that memory has no room for.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/io/in_parallel.hpp"
#include "mtp/io/mapped_model.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/pretrained/load_quantized.hpp"
#include "mtp/io/safetensors.hpp"
#include "mtp/model/quantized_model.hpp"
#include "mtp/ops/quantize.hpp"

namespace mtp::inline MTP_ABI::io {

/// Writes the model that load_quantized would make, for map_model, one parameter after the other:
/// this needs memory for the largest of them, all experts of a layer, and not for the model.
/// Matrices of linear maps that the checkpoint has in F8_E4M3 keep its numbers and scales,
/// everything else becomes elements of S. The file is written whole or not at all.
///
///     io::convert_to_mapped<config, cpu, bf16>(folder, "model.mapped", io::deepseek_v3_names);
///
/// Throws mtp::error as load_quantized and write_safetensors do.
template <model_config Config, class Backend, scalar S>
void convert_to_mapped(const std::filesystem::path& checkpoint,
                       const std::filesystem::path& path,
                       const family_names& family,
                       extra_tensors extra = extra_tensors::refused) {
  static_assert(backend_traits<Backend>::is_host_memory,
                "convert_to_mapped: the backend's weights are not in the memory of the host");
  namespace detail = pretrained_detail;
  using model_type = quantized_model<Config, Backend, S>;
  using bytes_view = vector_view<std::byte, Backend>;
  const mtp::detail::default_environment scope;
  const tensor_files files(checkpoint);
  const auto pieces = detail::quantized_pieces_of<model_type, accumulate_t<S>>(
      files, checkpoint, family, extra, "convert_to_mapped");
  std::map<std::string, std::vector<detail::row_range>> ranges;
  for (const file_piece& piece : pieces.all) detail::append_ranges(piece, ranges[piece.name]);

  std::vector<tensor_source> sources;
  model_type::layout.visit([&](const std::string& name, const parameter& p) {
    const auto& own = ranges[name];
    const auto each = [&own](const auto& place) {
      in_parallel(static_cast<index_t>(own.size()),
                  [&](index_t i) { place(own[static_cast<std::size_t>(i)]); });
    };
    if (pieces.in_e4m3.contains(name)) {
      const quantized_format format = *model_type::e4m3_form(p);
      const index_t bytes = quantized_weight_bytes<Backend>(p.outputs, p.inputs, format);
      sources.push_back(mapped_detail::source_of(
          mapped_detail::name_in(name, format), element::u8, bytes, [=, &files](auto& to) {
            each([&](const detail::row_range& range) {
              detail::place_e4m3<Backend>(
                  files, range, bytes_view(to.data(), dims<1>{bytes}), format);
            });
          }));
      return;
    }
    sources.push_back(mapped_detail::source_of(
        name, element_of<S>(), p.storage * static_cast<index_t>(sizeof(S)), [=, &files](auto& to) {
          each([&](const detail::row_range& range) {
            detail::fill<S, Backend>(files, range, reinterpret_cast<S*>(to.data()));
          });
        }));
  });
  write_safetensors(path, sources, mapped_detail::entries<Backend>(Config));
}

}  // namespace mtp::inline MTP_ABI::io
