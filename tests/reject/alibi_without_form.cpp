// expect: ::alibi_form | field 'form' with omitted initializer
// SPDX-License-Identifier: MIT
#include <posenc/alibi.hpp>

#ifndef POSENC_ACCEPT
const posenc::alibi_options options{.heads = 8};
#else
const posenc::alibi_options options{.heads = 8, .form = posenc::alibi_form::causal};
#endif
