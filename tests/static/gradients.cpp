// SPDX-License-Identifier: MIT
#include <posenc/gradients.hpp>

#include <posenc/posenc.hpp>

#include "doubles.hpp"

#include <concepts>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

using namespace posenc;

namespace {

template <class S>
struct named {
  using scalar = S;
  static constexpr std::string_view name() { return "named"; }
  friend bool operator==(const named&, const named&) = default;
};
template <class S>
struct adds : named<S> {
  void add(token_view<S>, const positions&) const;
};

struct trained : adds<float> {
  std::vector<parameter<float>> parameters();
};
struct trained_in_another_scalar : adds<float> {
  std::vector<parameter<double>> parameters();
};
struct trained_in_another_form : adds<float> {
  std::span<float> parameters();
};
struct without_a_verb : named<float> {
  std::vector<parameter<float>> parameters();
};
static_assert(trainable<trained> && !trainable<adds<float>> && !trainable<trained_in_another_scalar> &&
              !trainable<trained_in_another_form> && !trainable<without_a_verb> && !trainable<int>);

static_assert(trainable<alibi<float>> && trainable<alibi<double>> && !trainable<rope<float>> && !trainable<sinusoidal<float>> &&
              !trainable<no_encoding>);
static_assert(trainable<doubles::learned<float>> && trainable<doubles::shaw_keys<double>> && trainable<doubles::shaw_values<float>> &&
              !trainable<doubles::forgetting>);

static_assert(std::same_as<decltype(parameters(std::declval<adds<double>&>())), std::vector<parameter<double>>>,
              "any encoder can be asked");

static_assert(std::movable<gradient_buffer<float>> && !std::copyable<gradient_buffer<float>>, "spans would point into the original");

}  // namespace
