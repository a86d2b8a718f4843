// Places of parameters in one flat array.
#include "mtp/model/parameter.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "support/model.hpp"

namespace mtp::test::model_parameter_cases {

namespace {

/// Places one behind the other, at cache lines, without gaps of a line or more.
template <model_config Config, class S>
void check_places() {
  constexpr auto& layout = language_model<Config, cpu, S>::layout;
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(S));
  index_t end = 0;
  layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    CHECK(p.exists());
    CHECK(p.offset % line == 0);
    CHECK(p.offset == round_up(end, line));
    CHECK(p.storage >= p.count());
    end = p.offset + p.storage;
  });
  CHECK(layout.storage == round_up(end, line));
}

TEST_CASE_TEMPLATE("parameters lie one behind the other at cache lines", S, float, double) {
  check_places<flipped_config(head_kind::none, 0), S>();
  check_places<tiny_config(head_kind::sequential, 3), S>();
  check_places<flipped_config(head_kind::sequential, 2), S>();
  check_places<flipped_config(head_kind::recurrent, 2), S>();
  check_places<tiny_config(head_kind::parallel, 2), S>();
  check_places<tiny_config(head_kind::independent, 2), S>();
  check_places<tiny_config(head_kind::shared_logit, 2), S>();
}

TEST_CASE("the parameters of the head begin where those of the trunk end") {
  constexpr auto& layout =
      language_model<tiny_config(head_kind::sequential, 2), cpu, float>::layout;
  layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    CHECK((p.offset >= layout.head_begin) == (name.rfind("mtp.", 0) == 0));
  });
  constexpr auto& plain = language_model<tiny_config(head_kind::none, 0), cpu, float>::layout;
  static_assert(plain.head_begin == plain.storage);
  static_assert(layout.head_begin == plain.storage);
}

TEST_CASE("elements of different parameters have different places within their storage") {
  constexpr auto& layout =
      language_model<flipped_config(head_kind::sequential, 2), cpu, float>::layout;
  std::vector<int> taken(static_cast<std::size_t>(layout.storage), 0);
  layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    bool inside = true;
    for_each_element<float>(p, [&](std::size_t, std::size_t at) {
      inside = inside && static_cast<index_t>(at) < p.offset + p.storage;
      ++taken[at];
    });
    CHECK(inside);
  });
  CHECK(*std::max_element(taken.begin(), taken.end()) == 1);
}

TEST_CASE("a parameter knows its elements and whether it decays") {
  parameter_cursor<cpu, float> cursor;
  const parameter matrix = cursor.matrix(5, 7),
                  residual = cursor.matrix(3, 2, parameter_role::residual),
                  norm = cursor.vector(5, parameter_role::norm),
                  bias = cursor.vector(9, parameter_role::bias);
  CHECK(matrix.count() == 35);
  CHECK(norm.count() == 5);
  CHECK_FALSE(matrix.is_vector());
  CHECK(norm.is_vector());
  CHECK(matrix.decays());
  CHECK(residual.decays());
  CHECK(cursor.matrix(1, 1, parameter_role::zero).decays());
  CHECK(cursor.matrix(1, 1, parameter_role::embedding).decays());
  CHECK_FALSE(norm.decays());
  CHECK_FALSE(bias.decays());
  CHECK_FALSE(cursor.vector(2, parameter_role::routing_bias).decays());
  CHECK(matrix.use == parameter_use::linear_map);
  CHECK(matrix.in_elements().use == parameter_use::elements);
  const auto formats = [](const parameter& p) {  // that fit
    std::vector<bool> fit;
    for (const auto format :
         {quantized_format::int8, quantized_format::e4m3, quantized_format::e4m3_transposed}) {
      fit.push_back(p.fits(format));
    }
    return fit;
  };
  CHECK(formats(matrix) == std::vector{true, true, false});
  CHECK(formats(norm) == std::vector{false, false, false});
  CHECK(formats(matrix.in_elements()) == std::vector{false, false, false});
  CHECK(formats(matrix.read_by(parameter_use::heads)) == std::vector{false, true, false});
  CHECK(formats(matrix.read_by(parameter_use::transposed_heads)) ==
        std::vector{false, false, true});
  CHECK(matrix.in_elements().offset == matrix.offset);
  CHECK_FALSE(parameter{}.exists());
}

TEST_CASE("a parameter array shows a parameter as matrix, vector and storage") {
  parameter_cursor<cpu, float> cursor;
  cursor.vector(3, parameter_role::norm);
  const parameter matrix = cursor.matrix(5, 7), vector = cursor.vector(5, parameter_role::bias);
  std::vector<float> memory(static_cast<std::size_t>(cursor.offset()), 0.f);
  const parameter_array<float, cpu> all(memory.data(), cursor.offset());
  CHECK(all.count() == cursor.offset());
  all.matrix(matrix)(4, 6) = 2;
  all.vector(vector)(3) = 3;
  CHECK(all.matrix(matrix).outputs == 5);
  CHECK(all.matrix(matrix).inputs == 7);
  CHECK(all.vector(vector).extent(0) == 5);
  CHECK(all.storage(matrix).extent(0) == matrix.storage);
  CHECK(all.storage(vector)(3) == 3);
  CHECK(std::count(memory.begin(), memory.end(), 0.f) ==
        static_cast<std::ptrdiff_t>(memory.size()) - 2);
  const auto of_matrix = elements(all.storage(matrix));
  CHECK(std::count(of_matrix.begin(), of_matrix.end(), 2.f) == 1);
}

}  // namespace

}  // namespace mtp::test::model_parameter_cases
