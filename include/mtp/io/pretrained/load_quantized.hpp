// Makes a model with weights in FP8 of a checkpoint that has them, for inference.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/io/in_parallel.hpp"
#include "mtp/io/pretrained/fit.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/pretrained/tensor_values.hpp"
#include "mtp/model/quantized_model.hpp"
#include "mtp/ops/quantize.hpp"

namespace mtp::inline MTP_ABI::io {

namespace pretrained_detail {

/// The names of the parameters all of whose tensors are in F8_E4M3.
inline std::set<std::string> names_in_e4m3(const tensor_files& files,
                                           std::span<const file_piece> pieces) {
  std::set<std::string> names, others;
  for (const file_piece& piece : pieces) {
    const bool is_e4m3 = files.find(piece.file)->info->type == element::f8_e4m3;
    (is_e4m3 ? names : others).insert(piece.name);
  }
  for (const std::string& name : others) names.erase(name);
  return names;
}

/// What keeps the scales of a tensor's blocks from being scales of outputs and groups of inputs,
/// or "" if nothing does.
inline std::string why_not_e4m3(const file_piece& piece) {
  if (piece.transposed) {
    return "is F8_E4M3 of inputs by outputs, expected outputs by inputs";
  }
  if (piece.halves_swapped && piece.columns / 2 % scale_block != 0) {
    return "is F8_E4M3 with halves of columns that the configuration has the other way round, and "
           "their number, " +
           std::to_string(piece.columns / 2) +
           ", is no multiple of 128; set prediction.concat to "
           "the family's";
  }
  return "";
}

/// Whether the scales of a tensor's blocks are those of whole blocks of 128 rows of a part, as
/// quantized_format::e4m3_transposed has them: parts begin and end where blocks of the tensor do.
inline bool has_blocks_of_parts(const file_piece& piece) {
  const auto whole = [](index_t rows) { return rows % scale_block == 0; };
  return piece.group_rows > 0 && whole(piece.group_rows) && whole(piece.group_first) &&
         whole(piece.group_own);
}

/// The pieces of a checkpoint for a model whose matrices of linear maps stay in F8_E4M3 where they
/// are, each once.
struct quantized_pieces {
  std::vector<file_piece> all;
  std::set<std::string> in_e4m3;  // parameters
};

/// These pieces. Throws as `function`, which load_quantized documents.
template <class Model, class Sum>
quantized_pieces quantized_pieces_of(const tensor_files& files,
                                     const std::filesystem::path& path,
                                     const family_names& family,
                                     extra_tensors extra,
                                     const std::string& function) {
  quantized_pieces made;
  const load_report report =
      fit(files, family, Model::config, parameters_of(Model::layout), extra, made.all, function);
  check(report.has_head(),
        function,
        ": '",
        path.string(),
        "' has nothing of the head that the configuration has; expected ",
        report.has_head() ? "" : report.head_absent.front());
  check_copies<Sum>(files, made.all, function);
  made.in_e4m3 = names_in_e4m3(files, made.all);
  for (const file_piece& piece : made.all) {
    const auto form = Model::e4m3_form(piece.place);
    const bool fits = form == quantized_format::e4m3 || (form && has_blocks_of_parts(piece));
    if (!fits) made.in_e4m3.erase(piece.name);
  }
  std::ostringstream wrong;
  for (const file_piece& piece : made.all) {
    if (!made.in_e4m3.contains(piece.name)) continue;
    const std::string why = why_not_e4m3(piece);
    if (!why.empty()) wrong << "\n  " << piece.file << ' ' << why;
  }
  check(wrong.str().empty(), function, ": '", path.string(), "':", wrong.str());
  return made;
}

/// Writes rows of a tensor in F8_E4M3 to the bytes of its parameter, with the scales of the blocks
/// that they stand in.
template <class Backend>
void place_e4m3(const tensor_files& files,
                const row_range& range,
                vector_view<std::byte, Backend> to,
                quantized_format format) {
  const file_piece& piece = *range.piece;
  const stored_tensor& tensor = *files.find(piece.file);
  const auto scales = read_all<float>(*find_scale(files, piece.file));  // [blocks, groups]
  const index_t width = piece.columns, groups = ceil_div(width, scale_block);
  const index_t step = (index_t{1} << 16) / width + 1;  // stays in the cache
  std::vector<std::uint8_t> read(static_cast<std::size_t>((std::min)(step, range.count) * width));
  std::vector<std::uint8_t> numbers(static_cast<std::size_t>(width));  // of a row
  std::vector<float> of_groups(static_cast<std::size_t>(groups));      // the same
  for (index_t done = 0, rows = 0; done < range.count; done += rows) {
    const index_t begin = range.first + done;
    rows = (std::min)({step, range.count - done, piece.neighbours(begin)});
    tensor.file->read(*tensor.info,
                      piece.tensor_row(begin) * width,
                      rows * width,
                      reinterpret_cast<std::byte*>(read.data()));
    for (index_t i = 0; i < rows; ++i) {
      const index_t block = piece.tensor_row(begin + i) / scale_block;
      for (index_t k = 0; k < width; ++k) {
        numbers[static_cast<std::size_t>(piece.parameter_column(k))] =
            read[static_cast<std::size_t>(i * width + k)];
      }
      for (index_t g = 0; g < groups; ++g) {
        const index_t group = piece.parameter_column(g * scale_block) / scale_block;
        of_groups[static_cast<std::size_t>(group)] =
            scales[static_cast<std::size_t>(block * groups + g)];
      }
      set_e4m3_output(to,
                      piece.place.outputs,
                      piece.place.inputs,
                      piece.parameter_row(begin + i),
                      std::span<const std::uint8_t>(numbers),
                      std::span<const float>(of_groups),
                      format);
    }
  }
}

}  // namespace pretrained_detail

/// A model for inference of a checkpoint in a family's names, as load_pretrained reads it, but
/// matrices of linear maps and of heads that the checkpoint has in F8_E4M3 keep its numbers and
/// scales (set_e4m3_output); everything else becomes elements of S. No copy of a matrix in elements
/// is made on the way: beside the model this needs two MiB for each thread, and the scales of a
/// tensor. A parameter of several tensors, such as gate and up, is in FP8 if all of them are.
/// Embeddings and routers are elements. So is the part of kv_b_proj that makes keys where the
/// widths of keys and values without rotation are no multiples of 128, because blocks of scales
/// then hold rows of two heads.
///
///     auto model = io::load_quantized<config, cpu, bf16>(context, folder, io::deepseek_v3_names);
///     generator<config, cpu, bf16> generator(context, model);
///
/// Throws mtp::error that lists all tensors that are missing, unexpected or do not fit; the head's
/// must be there. A tensor in F8_E4M3 that is stored by inputs, or whose halves of columns change
/// places at another column than a multiple of 128, is refused by its name. So is one that differs
/// from another that it should repeat, and a file that cannot be read to its end.
template <model_config Config, class Backend, scalar S>
quantized_model<Config, Backend, S> load_quantized(context<Backend>&,
                                                   const std::filesystem::path& path,
                                                   const family_names& family,
                                                   extra_tensors extra = extra_tensors::refused) {
  static_assert(backend_traits<Backend>::is_host_memory,
                "load_quantized: the backend's weights are not in the memory of the host");
  namespace detail = pretrained_detail;
  using model_type = quantized_model<Config, Backend, S>;
  const mtp::detail::default_environment scope;
  const tensor_files files(path);
  const auto pieces = detail::quantized_pieces_of<model_type, accumulate_t<S>>(
      files, path, family, extra, "load_quantized");
  model_type model(
      [&](const std::string& name, const parameter&) { return pieces.in_e4m3.contains(name); });
  std::vector<detail::row_range> ranges;
  std::vector<file_piece> others;
  for (const file_piece& piece : pieces.all) {
    if (pieces.in_e4m3.contains(piece.name)) {
      detail::append_ranges(piece, ranges);
    } else {
      others.push_back(piece);
    }
  }
  in_parallel(static_cast<index_t>(ranges.size()), [&](index_t i) {
    const detail::row_range& range = ranges[static_cast<std::size_t>(i)];
    const parameter& place = range.piece->place;
    detail::place_e4m3<Backend>(files, range, model.bytes_of(place), *model_type::e4m3_form(place));
  });
  detail::fill_all<S, Backend>(
      files, others, [&](const parameter& p) { return model.elements(p).data(); });
  return model;
}

}  // namespace mtp::inline MTP_ABI::io
