// SPDX-License-Identifier: MIT
#include <posenc/posenc.hpp>

#include "catch.hpp"

#include <cstdint>
#include <string_view>

// Kernels undefine what they define: these are all the macros there are.
#if !defined(POSENC_VERSION) || !defined(POSENC_NAMESPACE) || !defined(POSENC_ASSERT) || !defined(POSENC_PLAIN_LOOPS)
#error "config.hpp has lost a macro"
#endif
#if defined(POSENC_KERNEL) || defined(POSENC_VECTOR_BYTES) || defined(POSENC_BUILT_FOR) || defined(POSENC_INLINE) || \
    defined(POSENC_INLINE_LAMBDA) || defined(POSENC_UNROLL)
#error "a kernel has left a macro behind"
#endif

namespace {

template <class E>
concept moves_nothing = posenc::position_encoder<E> && !posenc::trainable<E>;

}  // namespace

TEST_CASE("one include brings everything", "[posenc]") {
  using namespace posenc;
  static_assert(moves_nothing<no_encoding> && moves_nothing<sinusoidal<float>> && moves_nothing<rope<double>> && trainable<alibi<float>>);
  const compose all(sinusoidal<float>({.dim = 8, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}}),
                    rope<float>({.pairing = pairing::halves, .dim = 8}), alibi<float>({.heads = 2, .form = alibi_form::causal}),
                    no_encoding{});
  CHECK(std::string_view(all.name()) == "compose");
  CHECK(positions::range(3).time() == 3);
  CHECK(frequencies::plain("test", 8, 10000).count() == 4);
  CHECK(float_phase(2, from_radians(two_pi / double_double{4, 0})) == std::uint64_t{1} << 63);
  CHECK(has(current_instruction_set()));
}
