// Calls every kernel on arrays of exactly their own length, for the sanitizers to watch.
//
// Values are checked only as far as a plain sum can tell; the tests in Python do the rest.
#include "kernels.cpp"

#include <cstdio>
#include <cstdlib>
#include <random>

namespace {

std::mt19937 random_bits(7);

int64_t below(int64_t limit) { return static_cast<int64_t>(random_bits() % static_cast<uint64_t>(limit)); }

std::vector<float> normal(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = std::normal_distribution<float>()(random_bits);
  return x;
}

void expect(bool holds, const char* what) {
  if (holds) return;
  std::puts(what);
  std::exit(1);
}

// Vectors on the heap end where their rows end, so that one float too far is seen.
void attention(int set, int64_t B, int64_t N, int64_t L, int64_t H, int64_t D) {
  const int64_t P = 1 + below(9);
  const auto history = normal(B * L * H), pool = normal(P * H), weight = normal(H);
  const auto values = normal(B * L * D), grad = normal(B * N * D);
  std::vector<uint8_t> mask(static_cast<size_t>(B * L));
  std::vector<int64_t> picks(static_cast<size_t>(B * N));
  const int64_t share = below(3);  // none, some or all of the positions
  for (auto& valid : mask) valid = share == 2 || (share == 1 && below(2));
  for (auto& pick : picks) pick = below(P);
  auto weights = normal(B * N * L), out = normal(B * N * D);
  auto history_grad = normal(B * L * H), weight_grad = normal(H), values_grad = normal(B * L * D);
  std::vector<float> pool_grad(pool.size());
  const int threads = 1 + static_cast<int>(below(3));
  const auto forward = [&](float* kept) {
    return cascade_attention(history.data(), pool.data(), weight.data(), values.data(), mask.data(),
                             picks.data(), B, N, L, H, D, kept, out.data(), set, threads);
  };
  expect(forward(nullptr) == 0 && forward(weights.data()) == 0, "attention");
  const int failed = cascade_attention_backward(
      history.data(), pool.data(), weight.data(), values.data(), mask.data(), picks.data(), B, N, L,
      H, D, weights.data(), grad.data(), history_grad.data(), pool_grad.data(), weight_grad.data(),
      values_grad.data(), set, threads);
  expect(failed == 0, "attention_backward");
  double once = 0.0, again = 0.0;  // each slope reaches one behaviour and one item
  for (const float slope : history_grad) once += slope;
  for (const float slope : pool_grad) again += slope;
  expect(std::abs(once - again) < 1e-2, "sums of the gradients");
}

void rows(int64_t places, int64_t width) {
  const std::vector<int64_t> sizes{1, 3, 5000}, offsets{0, 1, 4};
  const int64_t F = 3, R = 5004;
  auto table = normal(R * width), moment = normal(R);
  for (float& m : moment) m = std::abs(m);
  std::vector<int16_t> counts(static_cast<size_t>(R), INT16_MAX - 1);
  const auto rates = std::vector<float>(INT16_MAX + 1, 0.5f);
  std::vector<int32_t> numbers(static_cast<size_t>(places * F));
  for (size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = below(9) ? static_cast<int32_t>(below(2 * sizes[i % 3])) : INT32_MIN;
  auto out = normal(places * F * width), grads = normal(places * F * width);
  const int threads = 1 + static_cast<int>(below(3));
  cascade_gather(table.data(), numbers.data(), offsets.data(), sizes.data(), places, F, width,
                 out.data(), threads);
  std::vector<const int32_t*> row_columns;
  std::vector<const float*> grad_columns;
  std::vector<int64_t> row_steps(3, F), grad_steps(3, F * width), lengths(3, places), fields{0, 1, 2};
  for (int64_t f = 0; f < F; ++f) {
    row_columns.push_back(numbers.data() + f);
    grad_columns.push_back(grads.data() + f * width);
  }
  const int64_t most = std::min<int64_t>(places, 2) + std::min<int64_t>(places, 4999);
  std::vector<int64_t> touched(static_cast<size_t>(most));
  std::vector<float> sums(static_cast<size_t>(most * width));
  const int64_t found = cascade_coalesce(
      row_columns.data(), row_steps.data(), grad_columns.data(), grad_steps.data(), lengths.data(),
      fields.data(), F, offsets.data(), sizes.data(), F, width, touched.data(), sums.data(), threads);
  expect(0 <= found && found <= most, "coalesce");
  for (int16_t* kept : {static_cast<int16_t*>(nullptr), counts.data()})
    cascade_update(table.data(), moment.data(), kept, rates.data(), touched.data(), sums.data(), found,
                   width, 0.1f, 1e-8f, threads);
}

}  // namespace

int main() {
  for (int set = 0; set <= cascade_training_instruction_set(); ++set)
    for (const int64_t L : {1, 15, 16, 50, 65})
      for (const int64_t H : {1, 23, 80})
        for (const int64_t D : {9, 40}) attention(set, 1 + below(4), 1 + below(90), L, H, D);
  for (const int64_t places : {0, 1, 40, 20000})
    for (const int64_t width : {3, 4, 8, 16, 32}) rows(places, width);
  std::puts("done");
  return 0;
}
