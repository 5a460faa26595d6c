// SPDX-License-Identifier: MIT
/// \file  The skewing of Huang et al. 2018, literally: products are padded, reshaped and sliced.
#pragma once

#include <cstddef>
#include <vector>

namespace reference {

/// A matrix, row after row.
struct matrix {
  std::ptrdiff_t rows, columns;
  std::vector<double> values;
};

/// Zeros before and after the columns of each row.
inline matrix padded(const matrix& from, std::ptrdiff_t before, std::ptrdiff_t after) {
  matrix all{from.rows, before + from.columns + after, {}};
  for (std::ptrdiff_t i = 0; i < from.rows; ++i) {
    const auto row = from.values.begin() + i * from.columns;
    all.values.insert(all.values.end(), static_cast<std::size_t>(before), 0.0);
    all.values.insert(all.values.end(), row, row + from.columns);
    all.values.insert(all.values.end(), static_cast<std::size_t>(after), 0.0);
  }
  return all;
}

/// `[length, length]` from products `[length, length]` with the keys of distances -(length - 1) ... 0: a column of zeros in front, reshaped
/// to one row more and one column less, without the first row. Above the diagonal stands what does not belong there.
inline matrix skewed(const matrix& products) {
  matrix all = padded(products, 1, 0);
  all.values.erase(all.values.begin(), all.values.begin() + products.columns);
  return {products.rows, products.columns, all.values};
}

/// `[length, length]` from products `[length, 2 length - 1]` with the keys of distances -(length - 1) ... length - 1: a column of zeros
/// behind, length - 1 zeros at the end, reshaped to rows of 2 length - 1, of which the first `length` lose the first length - 1 columns.
inline matrix skewed_unmasked(const matrix& products) {
  const std::ptrdiff_t length = products.rows, width = products.columns;
  matrix all = padded(products, 0, 1), result{length, length, {}};
  all.values.resize(all.values.size() + static_cast<std::size_t>(length - 1), 0.0);
  for (std::ptrdiff_t i = 0; i < length; ++i)
    for (std::ptrdiff_t j = length - 1; j < width; ++j) result.values.push_back(all.values[static_cast<std::size_t>(i * width + j)]);
  return result;
}

}  // namespace reference
