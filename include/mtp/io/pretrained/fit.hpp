// Compares what a checkpoint has with what a model needs, and says all that is wrong at once.
#pragma once

#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/pretrained/file_pieces.hpp"
#include "mtp/io/pretrained/tensor_files.hpp"
#include "mtp/io/pretrained/tensor_values.hpp"

namespace mtp::inline MTP_ABI::io {

/// What becomes of tensors that a model has no place for.
enum class extra_tensors {
  refused,   ///< an error that lists them
  left_out,  ///< listed in the report
};

/// What load_pretrained did.
struct load_report {
  index_t tensors = 0;                ///< that were read
  std::vector<std::string> left_out;  ///< tensors that the model has no place for
  /// Parameters of the head, which the checkpoint does not have; they kept their values.
  std::vector<std::string> head_absent;

  /// Whether the checkpoint has the head that the model has.
  bool has_head() const { return head_absent.empty(); }
};

namespace detail {

/// Whether a parameter belongs to the head, by its name.
inline bool is_of_head(std::string_view name) {
  return name.starts_with("mtp.");
}

/// Tensors that `pieces` account for, with their scales.
inline std::set<std::string, std::less<>> expected_names(const tensor_files& files,
                                                         const std::vector<file_piece>& pieces) {
  std::set<std::string, std::less<>> names;
  for (const file_piece& piece : pieces) {
    const stored_tensor* const found = files.find(piece.file);
    names.insert(piece.file);
    if (found != nullptr && found->info->type == element::f8_e4m3) {
      if (const stored_tensor* const scale = find_scale(files, piece.file)) {
        names.insert(scale->info->name);
      }
    }
  }
  return names;
}

/// What is wrong with the shape of a tensor, with a guess at the reason.
inline std::string wrong_shape(const file_piece& piece, const std::vector<index_t>& got) {
  std::string text = "expected shape " + shape_text(piece.shape) + ", got " + shape_text(got);
  const std::vector<index_t> reversed(piece.shape.rbegin(), piece.shape.rend());
  if (got == reversed && got != piece.shape) text += "; transposed?";
  return text;
}

}  // namespace detail

/// The pieces that can be read from `files`, in the order of the parameters, and what the report
/// says of the others. Throws mtp::error of `function` that lists every tensor that is missing,
/// unexpected, or of a wrong shape or type.
inline load_report fit(const tensor_files& files,
                       const family_names& family,
                       const model_config& config,
                       const std::vector<named_parameter>& parameters,
                       extra_tensors extra,
                       std::vector<file_piece>& pieces,
                       std::string_view function = "load_pretrained") {
  load_report report;
  std::vector<std::string> unnamed;
  const auto all = file_pieces(family, config, parameters, unnamed);
  const bool head_there = std::any_of(all.begin(), all.end(), [&](const file_piece& piece) {
    return detail::is_of_head(piece.name) && files.find(piece.file) != nullptr;
  });

  std::ostringstream wrong;
  const auto absent = [&](const std::string& name, const std::string& file, bool first = true) {
    if (detail::is_of_head(name) && !head_there) {
      if (report.head_absent.empty() || report.head_absent.back() != name) {
        report.head_absent.push_back(name);
      }
    } else if (first) {
      wrong << "\n  missing: " << file;
    }
  };
  pieces.clear();
  for (const file_piece& piece : all) {
    const stored_tensor* const found = files.find(piece.file);
    if (found == nullptr) {
      if (piece.use == piece_use::stored) absent(piece.name, piece.file, piece.begins_tensor());
    } else if (const std::string why = why_unreadable(files, *found); !why.empty()) {
      if (piece.begins_tensor()) wrong << "\n  " << piece.file << ": " << why;
    } else if (found->info->shape != piece.shape) {
      if (piece.begins_tensor())
        wrong << "\n  " << piece.file << ": " << detail::wrong_shape(piece, found->info->shape);
    } else {
      pieces.push_back(piece);
      report.tensors += piece.use == piece_use::stored && piece.begins_tensor() ? 1 : 0;
    }
  }
  for (const std::string& name : unnamed) {
    absent(name, name + ", for which the family " + std::string(family.name) + " has no name");
  }

  const auto expected = detail::expected_names(files, all);
  for (const auto& [name, tensor] : files.tensors()) {
    const bool ignored = std::any_of(
        family.ignored.begin(),
        family.ignored.end(),
        [text = std::string_view(name)](std::string_view end) { return text.ends_with(end); });
    if (expected.contains(name) || ignored) continue;
    if (extra == extra_tensors::refused) {
      wrong << "\n  unexpected: " << name << ' ' << detail::shape_text(tensor.info->shape);
    } else {
      report.left_out.push_back(name);
    }
  }
  check(wrong.str().empty(),
        function,
        ": '",
        files.path().string(),
        "' does not fit the model in the names of the family ",
        family.name,
        ":",
        wrong.str());
  return report;
}

}  // namespace mtp::inline MTP_ABI::io
