// Values of a checkpoint's tensors in the type of arithmetic, with the scales of blocks applied.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/pretrained/tensor_files.hpp"
#include "mtp/io/small_floats.hpp"

namespace mtp::inline MTP_ABI::io {

/// Rows and columns of the blocks that share a scale in checkpoints of DeepSeek-V3's kind.
inline constexpr index_t scale_block = 128;

/// The names that the scales of an F8 tensor may have: "X.weight_scale_inv" (DeepSeek-V3) and
/// "X.scale" (DeepSeek-V4) for "X.weight".
inline std::vector<std::string> scale_names(std::string_view tensor) {
  std::vector<std::string> names{std::string(tensor) + "_scale_inv"};
  if (constexpr std::string_view weight = ".weight"; tensor.ends_with(weight)) {
    names.push_back(std::string(tensor.substr(0, tensor.size() - weight.size())) + ".scale");
  }
  return names;
}

/// The scales of an F8 tensor, or nullptr.
inline const stored_tensor* find_scale(const tensor_files& files, std::string_view tensor) {
  for (const std::string& name : scale_names(tensor)) {
    if (const stored_tensor* const found = files.find(name)) return found;
  }
  return nullptr;
}

/// What keeps a tensor from being read as numbers, or "" if nothing does.
inline std::string why_unreadable(const tensor_files& files, const stored_tensor& tensor) {
  const tensor_info& info = *tensor.info;
  if (!is_floating(info.type) || info.type == element::f8_e8m0) {
    return "expected F64, F32, F16, BF16 or F8_E4M3, got " + std::string(element_name(info.type));
  }
  if (info.type != element::f8_e4m3) return "";
  const stored_tensor* const scale = find_scale(files, info.name);
  if (scale == nullptr) {
    std::string names;
    for (const auto& name : scale_names(info.name)) names += (names.empty() ? "" : " or ") + name;
    return "is F8_E4M3 without its scales; expected a tensor " + names;
  }
  if (info.shape.size() != 2) {
    return "is F8_E4M3 of rank " + std::to_string(info.shape.size()) + ", expected a matrix";
  }
  const element type = scale->info->type;
  if (!is_floating(type) || type == element::f8_e4m3) {
    return scale->info->name + ": expected scales of F32, got " + std::string(element_name(type));
  }
  const std::vector<index_t> blocks{ceil_div(info.shape[0], scale_block),
                                    ceil_div(info.shape[1], scale_block)};
  if (scale->info->shape != blocks) {
    return scale->info->name + ": expected shape " + detail::shape_text(blocks) +
           ", a scale for each 128 x 128 block, got " + detail::shape_text(scale->info->shape);
  }
  return "";
}

/// All elements of a tensor, widened or rounded.
template <real Sum>
std::vector<Sum> read_all(const stored_tensor& tensor) {
  std::vector<Sum> values(static_cast<std::size_t>(tensor.info->count()));
  std::vector<std::byte> bytes(values.size() *
                               static_cast<std::size_t>(element_size(tensor.info->type)));
  tensor.file->read(*tensor.info, 0, tensor.info->count(), bytes.data());
  widen(tensor.info->type, bytes.data(), tensor.info->count(), values.data());
  return values;
}

/// Reads the values of one tensor:
///
///     value[r, c] = element[r, c] * scale[r / 128, c / 128]    for F8_E4M3
///     value[i]    = element[i]                                 otherwise
///
/// It holds one piece of a MiB and the scales, not the tensor.
template <real Sum>
class tensor_values {
 public:
  /// Both must outlive it. Throws mtp::error as why_unreadable says.
  tensor_values(const tensor_files& files, const stored_tensor& tensor) : tensor_(tensor) {
    const std::string why = why_unreadable(files, tensor);
    check(why.empty(), "tensor_values: ", tensor.info->name, " ", why);
    if (tensor.info->type == element::f8_e4m3) {
      scales_ = read_all<Sum>(*find_scale(files, tensor.info->name));
    }
  }

  /// to[i] (=) value first + i in row-major order. Throws mtp::error outside of the tensor, and if
  /// the file cannot be read.
  void read(index_t first, index_t count, Sum* to) {
    read_plain(first, count, to);
    if (scales_.empty()) return;
    const index_t columns = tensor_.info->shape[1], blocks = ceil_div(columns, scale_block);
    for (index_t i = 0; i < count; ++i) {
      const index_t row = (first + i) / columns, column = (first + i) % columns;
      to[i] *= scales_[static_cast<std::size_t>(row / scale_block * blocks + column / scale_block)];
    }
  }

 private:
  void read_plain(index_t first, index_t count, Sum* to) {
    const index_t size = element_size(tensor_.info->type), step = detail::chunk_bytes / size;
    bytes_.resize(static_cast<std::size_t>((std::min)(step, count) * size));
    for (index_t done = 0; done < count; done += step) {
      const index_t piece = (std::min)(step, count - done);
      tensor_.file->read(*tensor_.info, first + done, piece, bytes_.data());
      widen(tensor_.info->type, bytes_.data(), piece, to + done);
    }
  }

  stored_tensor tensor_;
  std::vector<Sum> scales_;  // [ceil(rows / 128), ceil(columns / 128)]
  std::vector<std::byte> bytes_;
};

}  // namespace mtp::inline MTP_ABI::io
