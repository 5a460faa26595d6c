// SPDX-License-Identifier: MIT
// Flags, and the table. The rest of the command line is Google Benchmark's.
#include "bench.hpp"

#include <posenc/posenc.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>  // mallopt
#endif

#ifndef POSENC_BENCH_FLAGS  // CMake knows
#define POSENC_BENCH_FLAGS "unknown flags"
#endif

namespace {

using bench::variant;

template <class... Values>
std::string format(const char* how, Values... values) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), how, values...);
  return text.data();
}

std::string time_text(double seconds) {
  for (const auto& [unit, length] : {std::pair{"s ", 1.0}, std::pair{"ms", 1e-3}, std::pair{"us", 1e-6}})
    if (seconds >= length) return format("%.3g %s", seconds / length, unit);
  return format("%.3g ns", seconds * 1e9);
}

/// Collects repetitions, and prints one line per row in the end.
class table_reporter : public benchmark::BenchmarkReporter {
 public:
  /// What is printed in the end.
  enum class style { table, smoke_table, plain };

  table_reporter(const bench::suite& all, std::string title, style how) : all_(all), title_(std::move(title)), style_(how) {}

  bool ReportContext(const Context&) override {
    if (style_ != style::plain) GetErrorStream() << "Repetitions run in random order; the table comes at the end.\n";
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const bool median = run.run_type == Run::RT_Aggregate && run.aggregate_name == "median";  // all there is with ..._aggregates_only
      if (run.iterations == 0 || (run.run_type != Run::RT_Iteration && !median)) continue;
      // Time of this process: what others take of the machine is no business of the path. Unless it is about several threads.
      const double seconds = run.run_name.time_type == "real_time" ? run.real_accumulated_time : run.cpu_accumulated_time;
      seconds_[run.run_name.function_name].push_back(seconds / static_cast<double>(run.iterations));
    }
  }

  void Finalize() override {
    if (style_ == style::plain) {
      for (const auto& [name, all] : seconds_) GetOutputStream() << name << format(" %.6g", median(all)) << '\n';
      GetOutputStream().flush();
      return;
    }
    std::vector<std::array<std::string, columns>> lines;
    lines.push_back({"path", "shape", "MB", "time", "GB/s", "of limit", "x raw", "x Eigen", "ns/item", "x other", "goal"});
    for (const bench::row& row : all_.rows()) {
      const double own = best(row, variant::posenc);
      if (!(own > 0)) continue;
      const auto ratio = [&](variant kind, double digits) {
        const double value = best(row, kind) / own;
        return value > 0 ? format("%.*f", static_cast<int>(value < 10 ? digits : value < 100 ? 1 : 0), value) : std::string("-");
      };
      const std::string other = ratio(variant::other, 2);
      lines.push_back({row.path, row.shape, format("%.3g", row.bytes / 1e6), time_text(own), format("%.1f", row.moved / own / 1e9),
                       ratio(variant::limit, 2), ratio(variant::raw, 2), ratio(variant::eigen, 2), format("%.3f", own / row.items * 1e9),
                       other == "-" ? other : other + " " + row.other, goals_text(row)});
    }
    GetOutputStream() << title_ << '\n';
    print(lines);
    GetOutputStream() << format("Goals: %d met, %d missed", met_, missed_);
    if (unknown_ > 0) GetOutputStream() << format(", %d unknown, for what they compare with has not run", unknown_);
    GetOutputStream() << (style_ == style::smoke_table ? ". In a smoke run this means nothing.\n" : "\n");
    GetOutputStream().flush();
    if (lines.size() == 1)
      GetErrorStream() << "No posenc variant has run, so there are no rows; --benchmark_format=console shows the others.\n";
  }

 private:
  static constexpr std::size_t columns = 11;

  static double median(std::vector<double> values) {
    std::ranges::sort(values);
    const std::size_t n = values.size();
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
  }

  /// The median of a variant; of several of one kind, that of the fastest. Not a number if it was not run.
  double best(const bench::row& row, variant kind, std::string_view suffix = {}) const {
    const std::string name = row.name() + '/' + bench::suite::text(kind) + std::string(suffix);
    double least = std::numeric_limits<double>::quiet_NaN();
    for (auto one = seconds_.lower_bound(name); one != seconds_.end() && one->first.compare(0, name.size(), name) == 0; ++one) {
      const double time = median(one->second);
      if (!(least <= time)) least = time;
    }
    return least;
  }

  /// GB/s.
  double throughput(const bench::row& row) const { return row.moved / best(row, variant::posenc) / 1e9; }

  /// What a goal is about: its name, and how much of it there is; not a number where that is unknown.
  std::pair<std::string, double> measured(const bench::row& row, const bench::goal& goal) const {
    const double own = best(row, variant::posenc);
    switch (goal.of) {
      case bench::measure::limit: return {"limit", best(row, variant::limit) / own};
      case bench::measure::memcpy: return {"memcpy", best(row, variant::limit, "_memcpy") / own};
      case bench::measure::raw: return {"raw", best(row, variant::raw) / own};
      case bench::measure::other: return {row.other, best(row, variant::other) / own};
      case bench::measure::throughput: return {"GB/s", throughput(row)};
      case bench::measure::row: break;
    }
    for (const bench::row& one : all_.rows())
      if (one.path == goal.path && one.size == row.size) return {goal.path, throughput(row) / throughput(one)};
    return {goal.path, std::numeric_limits<double>::quiet_NaN()};
  }

  /// `>= 0.93 limit: met`; counts it. The figure counts as it is printed, with two digits after the point.
  std::string goals_text(const bench::row& row) {
    std::string all;
    for (const bench::goal& goal : row.goals) {
      const auto [what, exact] = measured(row, goal);
      const double value = std::round(exact * 100) / 100;
      const bool met = value >= goal.least;
      std::string result = met ? "met" : "MISSED";
      if (std::isnan(value)) result = "unknown", ++unknown_;
      else ++(met ? met_ : missed_);
      // Those that no column shows are shown here.
      if (!std::isnan(value) && (goal.of == bench::measure::memcpy || goal.of == bench::measure::row)) result += format(" (%.2f)", value);
      all += (all.empty() ? "" : ", ") + format(">= %.3g ", goal.least) + what + ": " + result;
    }
    return all;
  }

  void print(const std::vector<std::array<std::string, columns>>& lines) {
    std::array<std::size_t, columns> width{};
    for (const auto& line : lines)
      for (std::size_t c = 0; c < columns; ++c) width[c] = std::max(width[c], line[c].size());
    const auto left = [](std::size_t c) { return c < 2 || c + 2 >= columns; };
    for (const auto& line : lines) {
      std::string text;
      for (std::size_t c = 0; c < columns; ++c) {
        const std::string padding(width[c] - line[c].size(), ' ');
        text += (c ? "  " : "") + (left(c) ? line[c] + (c + 1 == columns ? "" : padding) : padding + line[c]);
      }
      GetOutputStream() << text << '\n';
    }
    GetOutputStream().flush();
  }

  const bench::suite& all_;
  std::string title_;
  style style_;
  std::map<std::string, std::vector<double>> seconds_;
  int met_ = 0, missed_ = 0, unknown_ = 0;
};

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  return "unknown";
}

/// What the figures depend on: for the JSON file, and for the line above the table.
std::string add_context() {
#if defined(__clang__)
  const std::string compiler = format("clang %d.%d.%d", __clang_major__, __clang_minor__, __clang_patchlevel__);
#elif defined(__GNUC__)
  const std::string compiler = format("GCC %d.%d.%d", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#else
  const std::string compiler = "unknown compiler";
#endif
  const std::string version = format("%d.%d.%d", POSENC_VERSION / 10000, POSENC_VERSION / 100 % 100, POSENC_VERSION % 100);
  const std::string eigen = format("%d.%d.%d", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
  const std::string set(posenc::name(posenc::current_instruction_set())), best(posenc::name(posenc::best_instruction_set()));
  const std::string cpu = processor();
  benchmark::AddCustomContext("posenc", version);
  benchmark::AddCustomContext("compiler", compiler);
  benchmark::AddCustomContext("flags", POSENC_BENCH_FLAGS);
  benchmark::AddCustomContext("eigen", eigen);
  benchmark::AddCustomContext("instruction_set", set);
  benchmark::AddCustomContext("best_instruction_set", best);
  benchmark::AddCustomContext("cpu", cpu);
  return "posenc " + version + ", " + compiler + " " + POSENC_BENCH_FLAGS + ", Eigen " + eigen + ", " + cpu + ", " + set +
         (set == best ? "" : " (unasked it would be " + best + ")");
}

void pin(std::string_view wanted) {
  using enum posenc::instruction_set;
  for (const auto set : {baseline, avx2, avx512, avx512_bf16})
    if (posenc::name(set) == wanted) return posenc::pin_instruction_set(set);
  posenc::require(false, "posenc_bench", "--isa must be baseline, avx2, avx512 or avx512_bf16", wanted);
}

void print_help() {
  std::puts(
      "posenc_bench [--short]      the smallest size only, few repetitions: a smoke run\n"
      "             [--plain]      no table, but a line for each variant: its name, and the median of its time in seconds\n"
      "             [--isa=SET]    pins the instruction set: baseline, avx2, avx512 or avx512_bf16\n"
      "             [flags of Google Benchmark]");
  benchmark::PrintDefaultHelp();
}

int run(int count, char** arguments) {
#if defined(__GLIBC__)
  // Memory once allocated stays with the process. Otherwise what expressions allocate is paged in anew in every pass, or is not,
  // depending on what ran before.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif

  bool brief = false, plain = false, own_table = true;
  std::vector<std::string> users;
  for (int i = 1; i < count; ++i) {
    const std::string_view flag = arguments[i];
    if (flag == "--short") brief = true;
    else if (flag == "--plain") plain = true;
    else if (flag.starts_with("--isa=")) pin(flag.substr(6));
    else users.emplace_back(flag);
    if (flag.starts_with("--benchmark_format")) own_table = false;
  }

  // The user's flags come later, and win.
  std::vector<std::string> flags{arguments[0], "--benchmark_enable_random_interleaving=true",
                                 std::string("--benchmark_repetitions=") + (brief ? "3" : "9"),
                                 std::string("--benchmark_min_time=") + (brief ? "0.005" : "0.03")};
  flags.insert(flags.end(), users.begin(), users.end());
  std::vector<char*> pointers;
  pointers.reserve(flags.size() + 1);
  for (std::string& flag : flags) pointers.push_back(flag.data());
  pointers.push_back(nullptr);
  int left = static_cast<int>(flags.size());
  benchmark::Initialize(&left, pointers.data(), print_help);
  if (benchmark::ReportUnrecognizedArguments(left, pointers.data())) return 2;

  bench::suite all(brief);
  bench::add_rotations(all);
  bench::add_rotary_family(all);
  bench::add_tables(all);
  bench::add_additions(all);
  bench::add_biases(all);
  bench::add_copes(all);
  bench::add_forgetting(all);
  bench::add_gated(all);
  bench::add_relative(all);
  bench::add_window_biases(all);
  bench::add_linears(all);
  bench::add_features(all);
  bench::add_fourier_codes(all);
  bench::add_convolutions(all);
  bench::add_fope(all);

  using style = table_reporter::style;
  table_reporter table(all, add_context(), plain ? style::plain : brief ? style::smoke_table : style::table);
  const std::size_t matched = benchmark::RunSpecifiedBenchmarks(own_table ? &table : nullptr);
  benchmark::Shutdown();
  return matched > 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run(count, arguments);
  } catch (const posenc::argument_error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
