// Reads the parameters of a model from a checkpoint of another program.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/io/pretrained/fit.hpp"
#include "mtp/io/pretrained/tensor_values.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::inline MTP_ABI::io {

namespace pretrained_detail {

/// All parameters of a layout with their names.
template <class Layout>
std::vector<named_parameter> parameters_of(const Layout& layout) {
  std::vector<named_parameter> all;
  layout.visit([&](const std::string& name, const parameter& p) { all.emplace_back(name, p); });
  return all;
}

/// Writes the values of a piece into `host`, the storage of its parameter.
template <class S, class Backend>
void fill(const tensor_files& files, const file_piece& piece, std::vector<S>& host) {
  using sum_type = accumulate_t<S>;
  constexpr index_t step = index_t{1} << 16;
  parameter p = piece.place;
  p.offset = 0;
  const parameter_array<S, Backend> array(host.data(), static_cast<index_t>(host.size()));
  tensor_values<sum_type> source(files, *files.find(piece.file));
  std::vector<sum_type> values(static_cast<std::size_t>((std::min)(step, piece.count())));
  for (index_t first = 0; first < piece.count(); first += step) {
    const index_t count = (std::min)(step, piece.count() - first);
    source.read(first, count, values.data());
    for (index_t i = 0; i < count; ++i) {
      const index_t at = piece.element(first + i);
      S& to = p.is_vector() ? array.vector(p)(at) : array.matrix(p)(at / p.inputs, at % p.inputs);
      to = static_cast<S>(values[static_cast<std::size_t>(i)]);
    }
  }
}

/// Throws unless two tensors of one shape have the same values. NaN equals NaN.
template <class Sum>
void check_copy(const tensor_files& files, const std::string& copy, const std::string& original) {
  constexpr index_t step = index_t{1} << 16;
  tensor_values<Sum> left(files, *files.find(copy)), right(files, *files.find(original));
  const index_t all = files.find(copy)->info->count();
  std::vector<Sum> a(static_cast<std::size_t>((std::min)(step, all))), b(a.size());
  for (index_t first = 0; first < all; first += step) {
    const index_t count = (std::min)(step, all - first);
    left.read(first, count, a.data());
    right.read(first, count, b.data());
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      check(a[i] == b[i] || (a[i] != a[i] && b[i] != b[i]),
            "load_pretrained: ",
            copy,
            " differs from ",
            original,
            ", which it should repeat, at element ",
            first + static_cast<index_t>(i));
    }
  }
}

}  // namespace pretrained_detail

/// Reads the parameters of a model from a checkpoint in a family's names: a folder or a file, as
/// tensor_files finds them. Values of any floating type are rounded to the model's. Needs, beside
/// the model, memory for its largest parameter and two MiB.
///
/// A checkpoint that has nothing of the head leaves the head's parameters as they are; the report
/// says so. Tensors that the model has no place for are refused unless `extra` allows them.
///
/// Throws mtp::error, with nothing changed, if tensors are missing, unexpected or do not fit; one
/// message lists all of them. If a file cannot be read to its end, or memory runs out,
/// parameters before that point have changed.
template <model_config Config, class Backend, scalar S>
[[nodiscard("load_pretrained: the report says whether the head was in the file")]] load_report
load_pretrained(const std::filesystem::path& path,
                language_model<Config, Backend, S>& model,
                const family_names& family,
                extra_tensors extra = extra_tensors::refused) {
  namespace detail = pretrained_detail;
  const mtp::detail::default_environment scope;
  const tensor_files files(path);
  std::vector<file_piece> pieces;
  load_report report =
      fit(files, family, Config, detail::parameters_of(model.layout), extra, pieces);

  for (const file_piece& piece : pieces) {
    if (piece.use == piece_use::stored) continue;
    const auto original = std::find_if(pieces.begin(), pieces.end(), [&](const file_piece& other) {
      return other.use == piece_use::stored && other.name == piece.name;
    });
    detail::check_copy<accumulate_t<S>>(files, piece.file, original->file);
  }
  std::vector<S> host;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const file_piece& piece = pieces[i];
    if (piece.use != piece_use::stored) continue;
    if (i == 0 || pieces[i - 1].name != piece.name) {
      host.assign(static_cast<std::size_t>(piece.place.storage), S{0});
    }
    detail::fill<S, Backend>(files, piece, host);
    if (i + 1 == pieces.size() || pieces[i + 1].name != piece.name) {
      backend_traits<Backend>::copy_from_host(
          model.values().data() + piece.place.offset, host.data(), host.size() * sizeof(S));
    }
  }
  return report;
}

}  // namespace mtp::inline MTP_ABI::io
