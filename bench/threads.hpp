// SPDX-License-Identifier: MIT
/// \file  Two threads, as a user would ask for them. The pool is there for as long as the benchmark that makes it.
#pragma once

#include <unsupported/Eigen/CXX11/Tensor>  // CMake defines EIGEN_USE_THREADS

namespace bench {

struct two_threads {
  Eigen::ThreadPool pool{2};
  Eigen::ThreadPoolDevice device{&pool, 2};
};

}  // namespace bench
