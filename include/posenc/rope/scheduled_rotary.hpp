// SPDX-License-Identifier: MIT
/// \file  Rotary encoders whose frequencies come from options, and may depend on the number of positions in use.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>        // require
#include <posenc/rope/rotary_verbs.hpp>// the verbs
#include <posenc/rope/rotary_descriptor.hpp>
#include <posenc/rope/rotary_table.hpp>
#include <posenc/tensor.hpp>

#include <optional>

namespace POSENC_NAMESPACE {

/// The base of encoders that are a descriptor and options. `Encoder` says what they come to, in two static functions:
/// `spectrum_at(descriptor, options, length)` and `options_depend_on_length(options)`.
///
/// Where frequencies or a centre depend on the length, `prepare` takes the largest position in use, of queries and of keys, plus 1: nothing
/// is remembered from call to call. Keys cached under other frequencies have to be turned again (`rerotate`), or the length fixed
/// (`at_length`).
template <class Encoder, compute_scalar S, class Options>
class scheduled_rotary : public rotary_verbs<Encoder, S> {
  using base = rotary_verbs<Encoder, S>;

 public:
  const Options& options() const noexcept { return options_; }
  /// What comes out while so many positions are in use.
  rotary_spectrum inspect(index_t length) const { return Encoder::spectrum_at(this->descriptor(), options_, length_.value_or(length)); }
  /// What comes out for the length that was fixed, or for 0.
  using base::inspect;
  /// The same encoder for a length once and for all. \throws argument_error  for a negative one.
  Encoder at_length(index_t length) const {
    require(length >= 0, Encoder::name(), "length must not be negative", length);
    return Encoder(this->descriptor(), options_, length);
  }

  friend bool operator==(const scheduled_rotary&, const scheduled_rotary&) = default;

 protected:
  scheduled_rotary(const rotary_descriptor& descriptor, const Options& options, std::optional<index_t> length)
      : base(descriptor,
             (detail::require_valid(Encoder::name(), descriptor), Encoder::spectrum_at(descriptor, options, length.value_or(0)))),
        options_(options),
        length_(length) {}
  ~scheduled_rotary() = default;
  scheduled_rotary(const scheduled_rotary&) = default;
  scheduled_rotary(scheduled_rotary&&) = default;
  scheduled_rotary& operator=(const scheduled_rotary&) = default;
  scheduled_rotary& operator=(scheduled_rotary&&) = default;

  bool depends_on_length() const { return !length_ && Encoder::options_depend_on_length(options_); }
  auto with_spectrum(index_t length, const auto& act) const {
    if (depends_on_length()) return act(inspect(length));
    return act(inspect());
  }

 private:
  friend base;

  Options options_;
  std::optional<index_t> length_;
};

}  // namespace POSENC_NAMESPACE
