// Calls every kernel on rows of exactly their own length, for the sanitizers to watch.
//
// Values are checked only as far as a plain sort can tell; the tests in Python do the rest.
#include "kernels.cpp"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>

namespace {

std::mt19937 random_bits(7);

int64_t below(int64_t limit) { return static_cast<int64_t>(random_bits() % static_cast<uint64_t>(limit)); }

float value(int kind, int64_t i) {
  const float u = std::normal_distribution<float>()(random_bits);
  switch (kind) {
    case 1: return std::round(2.0f * u);
    case 2: return 0.25f;
    case 3: return static_cast<float>(i);
    case 4: return std::tan(3.0f * u);
    case 5: return i % 2 ? u + 100.0f : u;
    case 6: return below(50) ? u : below(2) ? INFINITY : -INFINITY;
    case 7: return below(500) ? u : NAN;
    case 8: return u * 1e38f;
    default: return u;
  }
}

void expect(bool holds, const char* what, int set, int64_t n, int64_t k) {
  if (holds) return;
  std::printf("%s: set %d, n %lld, k %lld\n", what, set, static_cast<long long>(n),
              static_cast<long long>(k));
  std::exit(1);
}

// Vectors on the heap end where their rows end, so that one float too far is seen.
void round_of(int set, int64_t rows, int64_t n, int kind, bool masked) {
  const size_t size = static_cast<size_t>(rows * n), count = static_cast<size_t>(rows);
  std::vector<float> x(size), grad(size), upper(count), lower(count), weights(count);
  std::vector<uint8_t> labels(size), valid(size);
  std::vector<int64_t> ks(count), cuts(count);
  for (size_t i = 0; i < size; ++i) {
    x[i] = value(kind, static_cast<int64_t>(i) % n);
    labels[i] = below(3) == 0;
    valid[i] = below(4) != 0;
  }
  for (size_t b = 0; b < count; ++b) {
    weights[b] = static_cast<float>(below(5));
    ks[b] = below(n + 2) - 1;
    cuts[b] = n > 1 ? 1 + below(n - 1) : 0;
  }
  const int threads = 1 + static_cast<int>(below(3));
  if (n > 1) {
    cascade_boundary(x.data(), cuts.data(), 0, rows, n, upper.data(), lower.data(), set, threads);
    for (size_t b = 0; kind != 7 && b < count; ++b) {
      std::vector<float> row(x.begin() + static_cast<int64_t>(b) * n,
                             x.begin() + static_cast<int64_t>(b + 1) * n);
      std::sort(row.begin(), row.end(), std::greater<float>());
      const size_t k = static_cast<size_t>(cuts[b]);
      expect(upper[b] == row[k - 1] && lower[b] == row[k], "boundary", set, n, cuts[b]);
    }
  }
  for (int family = 0; family < 3; ++family) {
    const double tau = below(2) ? 1.0 : 0.01;
    cascade_threshold(x.data(), ks.data(), tau, family, rows, n, upper.data(), lower.data(), set,
                      threads);
    for (size_t b = 0; kind < 6 && b < count; ++b)
      expect(std::isfinite(upper[b] + lower[b]), "threshold", set, n, ks[b]);
  }
  float loss = 0.0f;
  const uint8_t* mask = masked ? valid.data() : nullptr;
  cascade_cross_entropy(x.data(), labels.data(), mask, masked ? ks.data() : nullptr, n / 3,
                        masked ? weights.data() : nullptr, 0.5, rows, n, &loss, grad.data(), set,
                        threads);
  if (kind < 6) expect(std::isfinite(loss), "loss", set, n, n / 3);
  std::vector<float> second(x), other(size);
  std::reverse(second.begin(), second.end());
  const float* stages[] = {x.data(), second.data(), x.data()};
  const int64_t* stage_ks[] = {nullptr, masked ? ks.data() : nullptr, nullptr};
  const int64_t numbers[] = {n / 2, n / 3, n};
  float* grads[] = {grad.data(), other.data(), grad.data()};
  const int used = 1 + static_cast<int>(below(3));
  cascade_joint_cross_entropy(stages, stage_ks, numbers, used, labels.data(), mask,
                              masked ? weights.data() : nullptr, 0.5, rows, n, &loss,
                              below(2) ? grads : nullptr, set, threads);
  if (kind < 6) expect(std::isfinite(loss), "joint loss", set, n, n / 3);
  cascade_cross_entropy(x.data(), labels.data(), mask, nullptr, n / 3, nullptr, 1e-20, rows, n,
                        &loss, nullptr, set, threads);
}

}  // namespace

int main() {
  const int64_t lengths[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 40, 63, 100, 319, 320, 321, 400,
                             640, 1000, 4096, 8191, 8192, 20000, 65537, 131071, 131072, 200000};
  for (int set = 0; set <= cascade_instruction_set(); ++set)
    for (const int64_t n : lengths)
      for (int kind = 0; kind < 9; ++kind)
        for (const bool masked : {false, true}) {
          // The longest rows take nearly all the time: their kinds take turns with the mask.
          if (n > 20000 && masked == ((n + kind) % 2 == 0)) continue;
          round_of(set, n < 1000 ? 1 + below(6) : 1 + below(2), n, kind, masked);
        }
  std::puts("done");
  return 0;
}
