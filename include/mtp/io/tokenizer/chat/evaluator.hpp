// Runs the tree of a chat template.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/chat/functions.hpp"
#include "mtp/io/tokenizer/chat/nodes.hpp"

namespace mtp::inline MTP_ABI::io::detail::jinja {

/// Runs a template once. A loop has variables of its own in each turn, as in Jinja; what is set
/// within them is gone behind them, unless it is a member of a namespace.
class evaluator {
 public:
  evaluator(entries names, std::string where)
      : scopes_{std::move(names)}, where_(std::move(where)) {}

  /// The text that the template makes.
  chat_text run(const node& all) {
    chat_text out;
    execute(all, out);
    return out;
  }

 private:
  enum class flow { on, leave, next };
  static constexpr std::int64_t most_steps = 2'000'000;

  /// Runs what may throw, and says on which line of the template it did.
  template <class Action>
  auto placed(const node& here, Action&& action) const {
    try {
      return action();
    } catch (const placed_error&) {
      throw;
    } catch (const mtp::error& problem) {
      throw placed_error(where_ + "line " + std::to_string(here.line) + ": " + problem.what());
    }
  }
  struct placed_error : mtp::error {
    using mtp::error::error;
  };

  flow execute(const node& here, chat_text& out) {
    return placed(here, [&] { return execute_here(here, out); });
  }

  flow execute_here(const node& here, chat_text& out) {
    check(++steps_ <= most_steps, "the template takes more than ", most_steps, " steps");
    switch (here.kind) {
      case node_kind::sequence:
        for (const node& each : here.parts) {
          if (const flow after = execute(each, out); after != flow::on) return after;
        }
        return flow::on;
      case node_kind::data:
        out.append(here.constant.characters());
        return flow::on;
      case node_kind::output:
        out.append(text_of(evaluate(here.parts[0])));
        return flow::on;
      case node_kind::choice:
        return execute(here.parts[is_true(evaluate(here.parts[0])) ? 1 : 2], out);
      case node_kind::loop:
        return loop(here, out);
      case node_kind::assignment:
        assign(here.names, evaluate(here.parts[0]));
        return flow::on;
      case node_kind::member_assignment:
        assign_member(here);
        return flow::on;
      case node_kind::block_assignment: {
        chat_text made;
        execute(here.parts[0], made);
        assign(here.names, std::move(made));
        return flow::on;
      }
      case node_kind::leave:
        return flow::leave;
      case node_kind::next:
        return flow::next;
      default:
        return flow::on;  // a part that is not there
    }
  }

  void set(const std::string& name, value what) {
    for (auto& [each, old] : scopes_.back()) {
      if (each.bytes() == name) {
        old = std::move(what);
        return;
      }
    }
    scopes_.back().emplace_back(chat_text(name), std::move(what));
  }

  void assign(const std::vector<std::string>& names, const value& what) {
    if (names.size() == 1) {
      set(names[0], what);
      return;
    }
    const list all = sequence_of(what);
    check(all.size() == names.size(), "expected ", names.size(), " values, got ", all.size());
    for (std::size_t i = 0; i < names.size(); ++i) set(names[i], all[i]);
  }

  void assign_member(const node& here) {
    const value target = look_up(here.names[0]);
    check(target.is<space>(),
          "expected a namespace in front of .",
          here.names[1],
          ", got ",
          target.kind());
    value what = evaluate(here.parts[0]);
    entries& all = *target.as<space>().all;
    for (auto& [name, old] : all) {
      if (name.bytes() == here.names[1]) {
        old = std::move(what);
        return;
      }
    }
    all.emplace_back(chat_text(here.names[1]), std::move(what));
  }

  flow loop(const node& here, chat_text& out) {
    list all;
    for (const value& each : sequence_of(evaluate(here.parts[0]))) {
      scopes_.emplace_back();
      assign(here.names, each);
      const bool is_wanted =
          here.parts[1].kind == node_kind::nothing || is_true(evaluate(here.parts[1]));
      scopes_.pop_back();
      if (is_wanted) all.push_back(each);
    }
    if (all.empty()) return execute(here.parts[3], out);
    const auto count = static_cast<std::int64_t>(all.size());
    for (std::int64_t i = 0; i < count; ++i) {
      const auto neighbour = [&](std::int64_t place, const char* name) {
        return place >= 0 && place < count ? all[static_cast<std::size_t>(place)]
                                           : value(undefined{name});
      };
      scopes_.emplace_back();
      set("loop",
          entries{{chat_text("index"), i + 1},
                  {chat_text("index0"), i},
                  {chat_text("revindex"), count - i},
                  {chat_text("revindex0"), count - i - 1},
                  {chat_text("first"), i == 0},
                  {chat_text("last"), i + 1 == count},
                  {chat_text("length"), count},
                  {chat_text("previtem"), neighbour(i - 1, "loop.previtem")},
                  {chat_text("nextitem"), neighbour(i + 1, "loop.nextitem")}});
      assign(here.names, all[static_cast<std::size_t>(i)]);
      const flow after = execute(here.parts[2], out);
      scopes_.pop_back();
      if (after == flow::leave) break;
    }
    return flow::on;
  }

  value look_up(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const value* const found = find(*scope, name)) return *found;
    }
    if (is_function(name)) return function{name};
    return undefined{name};
  }

  value evaluate(const node& here) {
    return placed(here, [&] { return evaluate_here(here); });
  }

  value evaluate_here(const node& here) {
    check(++steps_ <= most_steps, "the template takes more than ", most_steps, " steps");
    const auto part = [&](std::size_t i) { return evaluate(here.parts[i]); };
    switch (here.kind) {
      case node_kind::constant:
        return here.constant;
      case node_kind::variable:
        return look_up(here.name);
      case node_kind::elements: {
        list all;
        for (const node& each : here.parts) all.push_back(evaluate(each));
        return all;
      }
      case node_kind::mapping:
        return mapping(here);
      case node_kind::member:
        return member(part(0), here.name);
      case node_kind::index:
        return at(part(0), part(1));
      case node_kind::slice:
        return slice(part(0), bound(here.parts[1]), bound(here.parts[2]), bound(here.parts[3]));
      case node_kind::call:
        check(find_variable(here.name) == nullptr, "'", here.name, "' is no function");
        return run_function(arguments_of(here, 0));
      case node_kind::method:
        return run_method(part(0), arguments_of(here, 1));
      case node_kind::filter:
        return run_filter(part(0), arguments_of(here, 1));
      case node_kind::test:
        return run_test(part(0), arguments_of(here, 1));
      case node_kind::unary:
        return unary(here.name, part(0));
      case node_kind::binary:
        return binary(here);
      case node_kind::conditional:
        if (is_true(part(0))) return part(1);
        return here.parts[2].kind == node_kind::nothing ? value(undefined{"a value without else"})
                                                        : part(2);
      default:
        return none{};
    }
  }

  const value* find_variable(std::string_view name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const value* const found = find(*scope, name)) return found;
    }
    return nullptr;
  }

  value bound(const node& here) { return evaluate(here); }

  value mapping(const node& here) {
    entries all;
    for (std::size_t i = 0; i < here.parts.size(); i += 2) {
      const value key = evaluate(here.parts[i]);
      check(key.is<chat_text>(), "expected a text as a key, got ", key.kind());
      all.emplace_back(key.characters(), evaluate(here.parts[i + 1]));
    }
    return all;
  }

  static value member(const value& x, const std::string& name) {
    if (x.is<space>()) {
      const value* const found = find(*x.as<space>().all, name);
      return found != nullptr ? *found : value(undefined{name});
    }
    check(!x.is<undefined>(),
          "'",
          x.is<undefined>() ? x.as<undefined>().name : "",
          "' is undefined, so it has no member '",
          name,
          "'");
    return x.is_mapping() ? at(x, own(name)) : value(undefined{name});
  }

  arguments arguments_of(const node& here, std::size_t first) {
    list all;
    for (std::size_t i = first; i < here.parts.size(); ++i) all.push_back(evaluate(here.parts[i]));
    return {here.name, std::move(all), here.names};
  }

  static value unary(const std::string& sign, const value& x) {
    if (sign == "not") return !is_true(x);
    return arithmetic(sign, std::int64_t{0}, x);
  }

  value binary(const node& here) {
    const std::string& sign = here.name;
    const value a = evaluate(here.parts[0]);
    if (sign == "and") return is_true(a) ? evaluate(here.parts[1]) : a;
    if (sign == "or") return is_true(a) ? a : evaluate(here.parts[1]);
    const value b = evaluate(here.parts[1]);
    if (sign == "==") return equal(a, b);
    if (sign == "!=") return !equal(a, b);
    if (sign == "in") return contains(b, a);
    if (sign == "not in") return !contains(b, a);
    if (sign == "<") return less(a, b);
    if (sign == ">") return less(b, a);
    if (sign == "<=") return less(a, b) || equal(a, b);
    if (sign == ">=") return less(b, a) || equal(a, b);
    if (sign == "~") {
      chat_text joined = text_of(a);
      joined.append(text_of(b));
      return joined;
    }
    return arithmetic(sign, a, b);
  }

  std::vector<entries> scopes_;  // the innermost last
  std::string where_;
  std::int64_t steps_ = 0;
};

}  // namespace mtp::inline MTP_ABI::io::detail::jinja
