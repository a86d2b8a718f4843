// Reads the parameters of a model from a checkpoint of another program.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/io/in_parallel.hpp"
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

/// Rows of a tensor that one thread reads at a time.
struct row_range {
  const file_piece* piece;
  index_t first, count;  // of the piece's rows
};

/// The rows of pieces in ranges of about a million elements: enough to outweigh a thread's turn,
/// and the scales of F8 that each range reads again.
inline void append_ranges(const file_piece& piece, std::vector<row_range>& ranges) {
  const index_t step = (index_t{1} << 20) / (std::max<index_t>)(piece.file_columns(), 1) + 1;
  for (index_t first = 0; first < piece.file_rows(); first += step) {
    ranges.push_back({&piece, first, (std::min)(step, piece.file_rows() - first)});
  }
}

/// Writes the values of rows of a tensor to `storage`, which is that of its parameter.
template <class S, class Backend>
void fill(const tensor_files& files, const row_range& range, S* storage) {
  using sum_type = accumulate_t<S>;
  const file_piece& piece = *range.piece;
  parameter p = piece.place;
  p.offset = 0;
  const parameter_array<S, Backend> array(storage, p.storage);
  tensor_values<sum_type> source(files, *files.find(piece.file));
  const index_t width = piece.file_columns();
  const index_t step = (index_t{1} << 16) / width + 1;  // stays in the cache
  std::vector<sum_type> values(static_cast<std::size_t>((std::min)(step, range.count) * width));
  for (index_t done = 0, rows = 0; done < range.count; done += rows) {
    const index_t begin = range.first + done;
    rows = (std::min)({step, range.count - done, piece.neighbours(begin)});
    source.read(piece.tensor_row(begin) * width, rows * width, values.data());
    for (index_t i = 0; i < rows; ++i) {
      const sum_type* const from = values.data() + i * width;
      const index_t row = begin + i;
      if (p.is_vector()) {
        array.vector(p)(piece.parameter_row(row)) = static_cast<S>(from[0]);
      } else if (piece.transposed) {
        const index_t column = piece.parameter_column(row);
        for (index_t j = 0; j < width; ++j) {
          array.matrix(p)(piece.parameter_row(j), column) = static_cast<S>(from[j]);
        }
      } else {
        const index_t to = piece.parameter_row(row);
        for (index_t j = 0; j < width; ++j) {
          array.matrix(p)(to, piece.parameter_column(j)) = static_cast<S>(from[j]);
        }
      }
    }
  }
}

/// Writes the values of pieces, all parts of as many parameters as they name, to the model. All
/// threads share the work. storage_of(parameter) is where its elements go.
template <class S, class Backend, class Storage>
void fill_all(const tensor_files& files,
              std::span<const file_piece> pieces,
              const Storage& storage_of) {
  std::vector<row_range> ranges;
  if constexpr (backend_traits<Backend>::is_host_memory) {
    for (const file_piece& piece : pieces) append_ranges(piece, ranges);
    in_parallel(static_cast<index_t>(ranges.size()), [&](index_t i) {
      const row_range& range = ranges[static_cast<std::size_t>(i)];
      fill<S, Backend>(files, range, storage_of(range.piece->place));
    });
  } else {  // one parameter after the other, through memory of the host
    std::vector<S> host;
    for (std::size_t first = 0, end = 0; first < pieces.size(); first = end) {
      const parameter& place = pieces[first].place;
      ranges.clear();
      for (; end < pieces.size() && pieces[end].name == pieces[first].name; ++end) {
        append_ranges(pieces[end], ranges);
      }
      host.assign(static_cast<std::size_t>(place.storage), S{0});
      in_parallel(static_cast<index_t>(ranges.size()), [&](index_t i) {
        fill<S, Backend>(files, ranges[static_cast<std::size_t>(i)], host.data());
      });
      backend_traits<Backend>::copy_from_host(
          storage_of(place), host.data(), host.size() * sizeof(S));
    }
  }
}

/// Throws, as `function`, unless two tensors of one shape have the same values. NaN equals NaN.
template <class Sum>
void check_copy(const tensor_files& files,
                const std::string& copy,
                const std::string& original,
                std::string_view function) {
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
            function,
            ": ",
            copy,
            " differs from ",
            original,
            ", which it should repeat, at element ",
            first + static_cast<index_t>(i));
    }
  }
}

/// Leaves the pieces that are stored, after the others, which repeat one of them, have been
/// compared with it.
template <class Sum>
void check_copies(const tensor_files& files,
                  std::vector<file_piece>& pieces,
                  std::string_view function) {
  for (const file_piece& piece : pieces) {
    if (piece.use == piece_use::stored) continue;
    const auto original = std::find_if(pieces.begin(), pieces.end(), [&](const file_piece& other) {
      return other.use == piece_use::stored && other.name == piece.name;
    });
    check_copy<Sum>(files, piece.file, original->file, function);
  }
  std::erase_if(pieces, [](const file_piece& piece) { return piece.use != piece_use::stored; });
}

}  // namespace pretrained_detail

/// Reads the parameters of a model from a checkpoint in a family's names: a folder or a file, as
/// tensor_files finds them. Values of any floating type are rounded to the model's. All threads of
/// the machine share the work. Needs, beside the model, two MiB for each thread, and for a model
/// outside of the host's memory that of its largest parameter.
///
/// A checkpoint that has nothing of the head leaves the head's parameters as they are; the report
/// says so. Tensors that the model has no place for are refused unless `extra` allows them.
///
/// Throws mtp::error, with nothing changed, if tensors are missing, unexpected or do not fit; one
/// message lists all of them. If a file cannot be read to its end, or memory runs out,
/// some parameters have changed.
template <model_config Config, class Backend, scalar S>
[[nodiscard("load_pretrained: the report says whether the head was in the file")]] load_report
load_pretrained(const std::filesystem::path& path,
                language_model<Config, Backend, S>& model,
                const family_names& family,
                extra_tensors extra = extra_tensors::refused) {
  namespace detail = pretrained_detail;
  static_assert(
      is_whole<Config>,
      "load_pretrained: ranks have parts of this model (tensor_parallel_size); load a whole one, "
      "and divide_parameters in <mtp/model/divide.hpp> gives the part of a rank");
  const mtp::detail::default_environment scope;
  const tensor_files files(path);
  std::vector<file_piece> pieces;
  load_report report =
      fit(files, family, Config, detail::parameters_of(model.layout), extra, pieces);

  detail::check_copies<accumulate_t<S>>(files, pieces, "load_pretrained");
  detail::fill_all<S, Backend>(files, pieces, [values = model.values()](const parameter& p) {
    return values.storage(p).data();
  });
  return report;
}

}  // namespace mtp::inline MTP_ABI::io
