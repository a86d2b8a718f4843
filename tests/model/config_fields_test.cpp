#include "mtp/model/config_fields.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <type_traits>

namespace mtp::test::model_config_fields_cases {

namespace {

/// Changes a field to another value.
template <class Field>
constexpr void change(Field& field) {
  if constexpr (std::is_enum_v<Field>) {
    field = static_cast<Field>(static_cast<int>(field) + 1);
  } else if constexpr (std::is_same_v<Field, bool>) {
    field = !field;
  } else if constexpr (std::is_arithmetic_v<Field>) {
    field += 1;
  } else {
    field.name[0] = '?';
  }
}

}  // namespace

TEST_CASE("every visited field has a name of its own and is a part of the comparison") {
  std::set<std::string> names;
  std::set<const void*> places;
  int fields = 0;
  const model_config original;
  visit_fields(original, [&](const char* name, const auto& field) {
    names.insert(name);
    places.insert(&field);
    ++fields;
  });
  CHECK(static_cast<int>(names.size()) == fields);
  CHECK(static_cast<int>(places.size()) == fields);
  CHECK(fields == 51);  // a field that no visitor sees is neither saved nor compared
  for (int changed = 0; changed < fields; ++changed) {
    model_config config = original;
    int next = 0;
    visit_fields(config, [&](const char*, auto& field) {
      if (next++ == changed) change(field);
    });
    CAPTURE(changed);
    CHECK(config != original);
  }
}

TEST_CASE("a resolved configuration gives the sizes that follow from others") {
  constexpr model_config given{.hidden_size = 96, .attention = {.num_attention_heads = 4}};
  static_assert(resolved(given).attention.head_dim == 24);
  static_assert(resolved(given).attention.num_key_value_heads == 4);
  constexpr model_config own{
      .hidden_size = 96,
      .attention = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 10}};
  static_assert(resolved(own) == own);
  // Latent heads have several widths, none of which follows from others.
  constexpr model_config latent{
      .hidden_size = 20,
      .attention = {.kind = attention_kind::multi_head_latent, .num_attention_heads = 3}};
  static_assert(resolved(latent).attention.head_dim == 0);
  static_assert(resolved(latent).attention.num_key_value_heads == 3);
}

}  // namespace mtp::test::model_config_fields_cases
