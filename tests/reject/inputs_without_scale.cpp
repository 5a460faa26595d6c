// expect: required<T>::required() | field 'scale' with omitted initializer
// SPDX-License-Identifier: MIT
// Terms on either side of the scale would be wrong in silence.
#include <posenc/concepts.hpp>

#ifndef POSENC_ACCEPT
const posenc::attention_inputs<float> inputs{.causal = true};
#else
const posenc::attention_inputs<float> inputs{.scale = 0.125, .causal = true};
#endif
