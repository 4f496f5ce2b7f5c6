// Compiled kernels for float rows on the CPU, with a C interface.
//
// The instruction set is chosen when they run: what kernels.h names is compiled once for each.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "parallel.h"
#include "processor.h"

namespace {

constexpr double LN2 = 0.693147180559945309417;
constexpr uintptr_t LARGE_FROM = 4;  // large pages of a gradient that are worth asking for

// Floats in order as unsigned integers, and back. NaN has no place among them.
inline uint32_t float_order(float x) {
  uint32_t word;
  std::memcpy(&word, &x, sizeof word);
  return word >> 31 ? ~word : word | 0x80000000u;
}
inline float float_at(uint32_t order) {
  const uint32_t word = order >> 31 ? order & 0x7fffffffu : ~order;
  float x;
  std::memcpy(&x, &word, sizeof x);
  return x;
}

// A batch of rows and how many each selects.
struct Scores {
  const float* x;
  const uint8_t* valid;     // null: every entry is
  const int64_t* entries;   // how many are, one a row; null: n
  const int64_t* ks;        // null: k for all rows
  int64_t k;
  int64_t rows;
  int64_t n;

  inline int64_t k_of(int64_t b) const { return ks ? ks[b] : k; }
  inline int64_t entries_of(int64_t b) const { return entries ? entries[b] : n; }
  inline bool decided(int64_t b) const { return k_of(b) <= 0 || k_of(b) >= entries_of(b); }
};

struct Loss {
  const uint8_t* labels;
  const float* weights;  // one a row; null: 1
  double tau;
  double total;  // weight of all entries that count
  float* grad;   // null: none wanted
};

// A batch of rows that several stages score.
struct Joint {
  const float* const* x;  // one a stage
  const int64_t* const* ks;
  const int64_t* k;
  int stages;
  const uint8_t* labels;
  const uint8_t* valid;
  const int64_t* entries;
  const float* weights;
  double tau;
  double total;
  int64_t rows;
  int64_t n;
  float* const* grad;  // one a stage; null: none wanted

  inline int64_t k_of(int t, int64_t b) const { return ks[t] ? ks[t][b] : k[t]; }
  inline int64_t entries_of(int64_t b) const { return entries ? entries[b] : n; }
  inline bool passes(int t, int64_t b) const { return k_of(t, b) >= entries_of(b); }
  inline bool counts(int64_t b) const {
    bool decided = true;
    for (int t = 0; t < stages; ++t) {
      if (k_of(t, b) <= 0) return false;
      decided = decided && passes(t, b);
    }
    return !decided;
  }
};

#define CASCADE_KERNELS "kernels.h"
#include "each_instruction_set.h"

std::vector<int64_t> count_entries(const uint8_t* valid, int64_t rows, int64_t n) {
  std::vector<int64_t> entries(static_cast<size_t>(rows));
  for (int64_t b = 0; b < rows; ++b) {
    int64_t count = 0;
    for (const uint8_t* entry = valid + b * n; entry < valid + (b + 1) * n; ++entry)
      count += *entry != 0;
    entries[static_cast<size_t>(b)] = count;
  }
  return entries;
}

double total_weight(const Scores& scores, const float* weights) {
  double total = 0.0;
  for (int64_t b = 0; b < scores.rows; ++b)
    if (!scores.decided(b))
      total += static_cast<double>(scores.entries_of(b)) * (weights ? weights[b] : 1.0);
  return total;
}

}  // namespace

#define CASCADE_API extern "C" __attribute__((visibility("default")))

// What the caller was written for has to be what was compiled.
CASCADE_API int cascade_version() { return 3; }

// The best instruction set of this processor: 0 portable, 1 AVX2, 2 AVX-512. The functions below
// take one that is no better.
CASCADE_API int cascade_instruction_set() { return best(); }

// upper[b], lower[b] = the k-th and (k+1)-th largest of row b, 0 < k < n; NaN if the row has one.
CASCADE_API void cascade_boundary(const float* x, const int64_t* ks, int64_t k, int64_t rows,
                                  int64_t n, float* upper, float* lower, int set, int threads) {
  const Scores scores{x, nullptr, nullptr, ks, k, rows, n};
#ifdef CASCADE_X86
  if (set == AVX512) return avx512::boundaries(scores, upper, lower, threads);
  if (set == AVX2) return avx2::boundaries(scores, upper, lower, threads);
#endif
  return portable::boundaries(scores, upper, lower, threads);
}

// theta[b] + rest[b] = the root of sum F((x - theta) / tau) = k of row b; see threshold.h for F by
// its number. NaN if the row has one; far above or below all scores if none or all fit in.
CASCADE_API void cascade_threshold(const float* x, const int64_t* ks, double tau, int family,
                                   int64_t rows, int64_t n, float* theta, float* rest, int set,
                                   int threads) {
  const Scores scores{x, nullptr, nullptr, ks, 0, rows, n};
#ifdef CASCADE_X86
  if (set == AVX512) return avx512::thresholds(scores, tau, family, theta, rest, threads);
  if (set == AVX2) return avx2::thresholds(scores, tau, family, theta, rest, threads);
#endif
  portable::thresholds(scores, tau, family, theta, rest, threads);
}

// Weighted mean cross-entropy over the entries that count, and its gradient if `grad` is not null.
// Returns 1 if a score was infinite, or infinitely far from its threshold: then neither is right.
CASCADE_API int cascade_cross_entropy(const float* x, const uint8_t* labels, const uint8_t* valid,
                                      const int64_t* ks, int64_t k, const float* weights, double tau,
                                      int64_t rows, int64_t n, float* mean, float* grad, int set,
                                      int threads) {
  std::vector<int64_t> entries;
  if (valid) entries = count_entries(valid, rows, n);
  const Scores scores{x, valid, valid ? entries.data() : nullptr, ks, k, rows, n};
  const Loss loss{labels, weights, tau, total_weight(scores, weights), grad};
  if (grad) want_large_pages(grad, 4 * rows * n, LARGE_FROM);
#ifdef CASCADE_X86
  if (set == AVX512) return avx512::cross_entropy(scores, loss, mean, threads);
  if (set == AVX2) return avx2::cross_entropy(scores, loss, mean, threads);
#endif
  return portable::cross_entropy(scores, loss, mean, threads);
}

// The same for survival of all stages, at most 8; x, ks, k and grad have one entry a stage.
CASCADE_API int cascade_joint_cross_entropy(const float* const* x, const int64_t* const* ks,
                                            const int64_t* k, int stages, const uint8_t* labels,
                                            const uint8_t* valid, const float* weights, double tau,
                                            int64_t rows, int64_t n, float* mean,
                                            float* const* grad, int set, int threads) {
  std::vector<int64_t> entries;
  if (valid) entries = count_entries(valid, rows, n);
  Joint joint{x,       ks,  k,   stages, labels, valid, valid ? entries.data() : nullptr,
              weights, tau, 0.0, rows,   n,      grad};
  for (int64_t b = 0; b < rows; ++b)
    if (joint.counts(b))
      joint.total += static_cast<double>(joint.entries_of(b)) * (weights ? weights[b] : 1.0);
  for (int t = 0; grad && t < stages; ++t) want_large_pages(grad[t], 4 * rows * n, LARGE_FROM);
#ifdef CASCADE_X86
  if (set == AVX512) return avx512::joint_cross_entropy(joint, mean, threads);
  if (set == AVX2) return avx2::joint_cross_entropy(joint, mean, threads);
#endif
  return portable::joint_cross_entropy(joint, mean, threads);
}
