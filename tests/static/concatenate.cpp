// SPDX-License-Identifier: MIT
#include <posenc/combine/concatenate_project.hpp>

#include <posenc/alibi.hpp>
#include <posenc/combine.hpp>
#include <posenc/no_encoding.hpp>
#include <posenc/rope.hpp>
#include <posenc/sinusoidal.hpp>

#include "doubles.hpp"
#include "table_codes.hpp"

using namespace posenc;

namespace {

// Codes of positions alone, and nothing else.
static_assert(code_encoder<sinusoidal<float>> && code_encoder<sinusoidal<double>> && code_encoder<doubles::table_codes>);
static_assert(!code_encoder<rope<float>> && !code_encoder<alibi<float>> && !code_encoder<no_encoding>);
static_assert(!code_encoder<doubles::learned<float>>, "it adds, but does not write its code by itself");
static_assert(!code_encoder<compose<sinusoidal<float>>>);

template <class T>
using tensor = Eigen::Tensor<T, 3>;
template <class E, class X, class Out>
concept concatenates = requires(const E& e, X&& x, Out&& out, const positions& at) { concatenate(e, x, out, at); };
static_assert(concatenates<sinusoidal<float>, tensor<float>&, tensor<float>&>);
static_assert(concatenates<sinusoidal<float>, const tensor<Eigen::half>&, tensor<Eigen::half>&>);
static_assert(!concatenates<sinusoidal<float>, tensor<float>&, const tensor<float>&>, "it writes");
static_assert(!concatenates<sinusoidal<float>, tensor<float>&, tensor<double>&>, "bits are copied");
static_assert(!concatenates<sinusoidal<double>, tensor<float>&, tensor<float>&>, "codes in double are no floats");
static_assert(!concatenates<rope<float>, tensor<float>&, tensor<float>&>, "a rotation has no code");

template <class E>
concept projects = requires { typename concatenate_project<E>; };
static_assert(projects<sinusoidal<float>> && projects<doubles::table_codes> && !projects<rope<float>>);

using projection = concatenate_project<sinusoidal<float>>;
static_assert(additive_encoder<projection> && position_encoder<projection> && trainable<projection> && !code_encoder<projection>);
static_assert(!std::is_default_constructible_v<projection>);

}  // namespace
