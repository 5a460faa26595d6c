// SPDX-License-Identifier: MIT
/// \file  The form of PEG that is told its grid: out of place, with a stride or without, and its gradient.
#pragma once

#include <posenc/conditional/depthwise.hpp>
#include <posenc/conditional/peg_grids.hpp>
#include <posenc/conditional/peg_options.hpp>
#include <posenc/conditional/peg_sums.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // gradient_spans
#include <posenc/grid.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <vector>

namespace POSENC_NAMESPACE::detail {

template <class A, class B>
bool overlaps(const token_view<A>& a, const token_view<B>& b) {
  return overlaps_partly(a, b) || (!a.empty() && static_cast<const void*>(a.data()) == static_cast<const void*>(b.data()));
}

/// \param rows, written  the grids of in and of out
template <class A, class B>
void require_shapes(const token_view<A>& in, const token_view<B>& out, const row_grids& rows, const row_grids& written, index_t dim) {
  index_t changed = 0;  // how many cells fewer
  if (!rows.empty() && !rows[0].empty()) changed = rows[0][0].cells() - written[0][0].cells();
  require(in.extent(2) == dim, peg_name, "channels must equal dim", dim, in.extent(2));
  const std::array<index_t, 3> shape{in.extent(0), in.extent(1) - changed, dim};
  require(out.extents() == shape, peg_name, "the output must have the strided grid's shape", shape, out.extents());
  require_rows(peg_name, in);
}

template <class T>
void copy_tokens(const token_view<const T>& from, index_t t, const token_view<T>& to, index_t then, index_t count) {
  for (index_t b = 0; b < to.extent(0); ++b)
    for (index_t n = 0; n < count && to.extent(2) > 0; ++n) std::copy_n(&from(b, t + n, 0), to.extent(2), &to(b, then + n, 0));
}
/// What is not computed of an output: all of it where masked cells are kept, and what the sums are added to.
template <class T>
void copy_kept(const token_view<const T>& from, const token_view<T>& to, const grid& cells, bool strided) {
  if (from.data() == to.data()) return;
  if (!strided) return copy_tokens(from, 0, to, 0, to.extent(1));
  copy_tokens(from, 0, to, 0, cells.prefix);
  copy_tokens(from, from.extent(1) - cells.suffix, to, to.extent(1) - cells.suffix, cells.suffix);
}

/// See `peg::convolve`.
template <class T, class S>
void convolve_cells(const peg_options& options, const peg_sums<S>& sums, const token_view<const T>& in, const token_view<T>& out,
                    const grid& cells, const given_mask& mask, const executor& run) {
  const auto rows = grids_of(options, cells, mask, in.extent(0), in.extent(1));
  const auto written = sums.strided() ? outputs_of(rows, sums.filter()) : rows;
  require_shapes(in, out, rows, written, options.dim);
  require_output(peg_name, out);
  require(sums.strided() ? !overlaps(in, out) : !overlaps_partly(in, out), peg_name, "input and output must be one view or not overlap",
          in.extents(), out.extents());
  copy_kept(in, out, cells, sums.strided());
  sums.forward(tensors_of(in, out), items_of(rows, written, in.extent(0)), run);
}

/// See `peg::convolve_backward`.
template <class T, class S>
void convolve_cells_backward(const peg_options& options, const peg_sums<S>& sums, const token_view<const T>& d_out,
                             const token_view<const T>& in, const token_view<T>& d_in, const grid& cells, const given_mask& mask,
                             gradient_spans<S> d_parameters, const executor& run) {
  const auto rows = grids_of(options, cells, mask, in.extent(0), in.extent(1));
  const auto written = sums.strided() ? outputs_of(rows, sums.filter()) : rows;
  require_shapes(in, d_out, rows, written, options.dim);
  require_rows(peg_name, d_out);
  require_output(peg_name, d_in);
  require(d_in.extents() == in.extents(), peg_name, "the gradient must have the shape of the tokens", in.extents(), d_in.extents());
  require(!overlaps(d_in, in) && (sums.strided() ? !overlaps(d_out, d_in) : !overlaps_partly(d_out, d_in)), peg_name,
          "input and output must be one view or not overlap", in.extents(), d_in.extents());
  sums.require_gradients(d_parameters);
  if (sums.strided())
    for (index_t b = 0; b < d_in.extent(0); ++b)
      for (index_t t = 0; t < d_in.extent(1) && d_in.extent(2) > 0; ++t) std::fill_n(&d_in(b, t, 0), d_in.extent(2), T(0));
  copy_kept(d_out, d_in, cells, sums.strided());
  sums.backward(sums.strided() ? d_out : token_view<const T>(d_in), in, d_in, items_of(rows, written, in.extent(0)), d_parameters, run);
}

}  // namespace POSENC_NAMESPACE::detail
