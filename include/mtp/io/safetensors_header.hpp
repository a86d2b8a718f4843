// Parses the JSON header of a safetensors file and accepts nothing else.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/safetensors_format.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Receives the events of the JSON parser and accepts only what a header may contain, so that
/// neither nesting nor an unknown value uses memory. Throws mtp::error at the first event that does
/// not belong.
class header_parser {
 public:
  using json = nlohmann::json;

  header_parser(std::string where,
                std::map<std::string, std::string>& metadata,
                std::vector<tensor_info>& tensors)
      : where_(std::move(where)), metadata_(metadata), tensors_(tensors) {}

  void parse(std::string_view header) {
    require(header.starts_with('{'), "the header does not start with '{'");
    // The JSON parser takes a NUL for the end of its input and would ignore what follows.
    require(header.find('\0') == std::string_view::npos, "the header contains a NUL byte");
    json::sax_parse(header, this);
  }

  bool start_object(std::size_t) {
    switch (place_) {
      case place::outside:
        place_ = place::top;
        break;
      case place::top:
        if (name_ == metadata_name) {
          require(!has_metadata_, "duplicate key '__metadata__'");
          has_metadata_ = true;
          place_ = place::metadata;
        } else {
          tensor_ = tensor_info{};
          tensor_.name = name_;
          field_.clear();
          seen_ = {};
          place_ = place::tensor;
        }
        break;
      default:
        refuse_value("an object");
    }
    return true;
  }

  bool key(std::string& key) {
    if (place_ == place::top) {
      name_ = std::move(key);
    } else {
      field_ = std::move(key);
      if (place_ == place::metadata) {
        require(!metadata_.contains(field_), "__metadata__: duplicate key '", field_, "'");
      } else {
        require(
            !std::exchange(seen_[field_index()], true), about(), "duplicate key '", field_, "'");
      }
    }
    return true;
  }

  bool end_object() {
    if (place_ == place::tensor) {
      field_.clear();
      for (std::size_t field = 0; field < fields.size(); ++field) {
        require(seen_[field], about(), "'", fields[field], "' is missing");
      }
      tensors_.push_back(std::move(tensor_));
    }
    place_ = place_ == place::top ? place::outside : place::top;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ != place::tensor || field_ == "dtype") refuse_value("an array");
    place_ = place::array;
    length_ = 0;
    return true;
  }

  bool end_array() {
    if (field_ == "data_offsets") require(length_ == 2, about(), "expected 2, got ", length_);
    place_ = place::tensor;
    return true;
  }

  bool number_unsigned(json::number_unsigned_t value) {
    if (place_ != place::array) refuse_value(value);
    if (field_ == "shape") {
      require(std::in_range<index_t>(value), about(), "the size ", value, " is too large");
      tensor_.shape.push_back(static_cast<index_t>(value));
    } else {
      require(length_ < 2, about(), "expected 2, got more");
      (length_ == 0 ? tensor_.begin : tensor_.end) = value;
    }
    ++length_;
    return true;
  }

  bool string(std::string& value) {
    if (place_ == place::metadata) {
      metadata_.emplace(field_, std::move(value));
    } else if (place_ == place::tensor && field_ == "dtype") {
      const std::optional<element> type = element_of_name(value);
      require(type.has_value(),
              about(),
              "the element type '",
              value,
              "' is not supported, expected F64, F32, F16, BF16, F8_E4M3, F8_E8M0, I64, I32 or U8");
      tensor_.type = *type;
    } else {
      refuse_value("a string");
    }
    return true;
  }

  bool number_integer(json::number_integer_t value) { refuse_value(value); }
  bool number_float(json::number_float_t, const std::string& text) { refuse_value(text); }
  bool null() { refuse_value("null"); }
  bool boolean(bool value) { refuse_value(value ? "true" : "false"); }
  bool binary(json::binary_t&) { refuse_value("bytes"); }

  bool parse_error(std::size_t position, const std::string&, const json::exception& error) {
    constexpr std::size_t enough = 300;  // the text quotes the last token, which may be huge
    fail(where_,
         "the header is not valid JSON at byte ",
         position,
         ": ",
         std::string_view(error.what()).substr(0, enough));
  }

 private:
  enum class place { outside, top, metadata, tensor, array };
  static constexpr std::array<std::string_view, 3> fields{"dtype", "shape", "data_offsets"};

  template <class... Parts>
  void require(bool holds, const Parts&... parts) const {
    check(holds, where_, parts...);
  }

  /// The name of the current value, for messages.
  std::string about() const {
    switch (place_) {
      case place::outside:
        return "the header: ";
      case place::top:
        return "'" + name_ + "': ";
      case place::metadata:
        return "__metadata__: '" + field_ + "': ";
      default:
        return "tensor '" + name_ + "': " + (field_.empty() ? "" : "'" + field_ + "': ");
    }
  }

  template <class Value>
  [[noreturn]] void refuse_value(const Value& value) const {
    std::string_view expected = "an object";
    if (place_ == place::metadata) expected = "a string";
    if (place_ == place::tensor) expected = field_ == "dtype" ? "a string" : "an array";
    if (place_ == place::array) expected = "integers that are not negative and fit into 64 bits";
    fail(where_, about(), "expected ", expected, ", got ", value);
  }

  std::size_t field_index() const {
    const auto* const found = std::find(fields.begin(), fields.end(), field_);
    require(found != fields.end(), "tensor '", name_, "': unknown key '", field_, "'");
    return static_cast<std::size_t>(found - fields.begin());
  }

  std::string where_;
  std::map<std::string, std::string>& metadata_;
  std::vector<tensor_info>& tensors_;

  place place_ = place::outside;
  std::string name_;   // the key in the top object
  std::string field_;  // the key in the object inside it
  bool has_metadata_ = false;
  std::array<bool, 3> seen_{};  // by position in `fields`
  std::size_t length_ = 0;      // of the array
  tensor_info tensor_;
};

}  // namespace mtp::inline MTP_ABI::io::detail
