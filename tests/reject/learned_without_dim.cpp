// expect: required<T>::required() [with T = long int] | field 'dim' with omitted initializer
// SPDX-License-Identifier: MIT
#include <posenc/learned.hpp>

#ifndef POSENC_ACCEPT
const posenc::learned_options options{.rows = 512};
#else
const posenc::learned_options options{.rows = 512, .dim = 64};
#endif
