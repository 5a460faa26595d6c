// expect: ::axial_lookup | field 'lookup' with omitted initializer
// SPDX-License-Identifier: MIT
// Tables do not tell whether positions have axes or digits.
#include <posenc/learned/axial_learned.hpp>

using posenc::axial_join, posenc::axial_lookup;
#ifndef POSENC_ACCEPT
const posenc::axial_learned_options options{.rows = {50, 50}, .widths = {8, 8}, .join = axial_join::concatenate};
#else
const posenc::axial_learned_options options{
    .rows = {50, 50}, .widths = {8, 8}, .join = axial_join::concatenate, .lookup = axial_lookup::axes};
#endif
