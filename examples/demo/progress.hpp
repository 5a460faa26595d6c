// SPDX-License-Identifier: MIT
/// \file  A progress bar on stderr; where that is no terminal, a line per 25 %.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

#if __has_include(<unistd.h>)
#include <unistd.h>  // isatty
#endif

namespace demo {

class progress {
 public:
  explicit progress(std::size_t steps) : steps_(steps) {}
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  /// Makes room for the results, or for what went wrong.
  ~progress() {
    if (on_terminal_) std::fputs("\r\x1b[K", stderr);
  }

  void step(std::string_view doing) {
    const std::size_t before = percent() / 25;
    ++done_;
    const std::size_t quarters = percent() / 25;
    if (on_terminal_) draw(doing);
    else if (quarters > before) std::fprintf(stderr, "%3zu %%\n", 25 * quarters);
  }

 private:
  static bool is_terminal() {
#if __has_include(<unistd.h>)
    return isatty(STDERR_FILENO) != 0;
#else
    return false;
#endif
  }
  std::size_t percent() const { return 100 * done_ / steps_; }

  void draw(std::string_view doing) const {
    constexpr std::size_t width = 50;
    const std::size_t full = width * done_ / steps_;
    const std::string bar = std::string(full, '#') + std::string(width - full, '.');
    std::fprintf(stderr, "\r[%s] %3zu %%  %.*s\x1b[K", bar.c_str(), percent(), static_cast<int>(doing.size()), doing.data());
  }

  std::size_t steps_, done_ = 0;
  bool on_terminal_ = is_terminal();
};

}  // namespace demo
