// Target attention: softmax over a history of w . relu(history + candidate).
//
// Compiled once on top of each simd_*.h. Legend: B requests, N candidates, L history length, J valid
// positions of one history, H hidden units, D width, P items of the pool. A suffix p is a size
// rounded up to whole vectors; what is added is 0.
//
// w . relu(h + c) = w . max(h, -c) + w . c, and the last term is the same for the whole history, so
// the softmax does not see it: two operations a hidden unit are enough. Nothing here is larger than
// one request's history times BLOCK candidates.

constexpr int64_t BLOCK = 40;  // candidates whose weights are held at a time
constexpr int64_t LATER = 6;   // rows of the pool that are asked of the memory early
constexpr int64_t LINE = 16;   // floats that come together

// 0, or NaN if one of the numbers is infinite or NaN: comparisons would hide it.
inline float poison(const float* x, int64_t n) {
  Floats sum = Simd::all(0.0f);
  int64_t i = 0;
  for (; i + W <= n; i += W) sum = Simd::fma(Simd::load(x + i), Simd::all(0.0f), sum);
  if (i < n)
    sum = Simd::fma(Simd::load_first(x + i, static_cast<int>(n - i), 0.0f), Simd::all(0.0f), sum);
  return static_cast<float>(Simd::sum(sum));
}

// Softmax of n logits, in their place and 0 in the rest of the last vector. `start` is 0 or NaN.
inline void softmax(float* logits, int64_t n, float start) {
  constexpr float LOWEST = -std::numeric_limits<float>::max();
  const int64_t full = n / W * W;
  const int rest = static_cast<int>(n - full);
  Floats most = Simd::all(LOWEST);
  for (int64_t j = 0; j < full; j += W) most = Simd::max(most, Simd::load(logits + j));
  if (rest) most = Simd::max(most, Simd::load_first(logits + full, rest, LOWEST));
  const Floats top = Simd::all(Simd::largest(most));
  const Floats unit = Simd::all(static_cast<float>(LOG2E));
  Floats total = Simd::all(0.0f);
  for (int64_t j = 0; j < whole(n); j += W) {
    const Floats logit = j < full ? Simd::load(logits + j) : Simd::load_first(logits + j, rest, LOWEST);
    const Floats power = Simd::exp2_below(Simd::mul(Simd::sub(logit, top), unit));
    Simd::store(logits + j, power);
    total = Simd::add(total, power);
  }
  const Floats scale = Simd::all(static_cast<float>(1.0 / (Simd::sum(total) + start)));
  for (int64_t j = 0; j < whole(n); j += W)
    Simd::store(logits + j, Simd::mul(Simd::load(logits + j), scale));
}

// A thread's memory, handed out in pieces of whole vectors.
struct Scratch {
  float* next;
  inline float* take(int64_t n) {
    float* piece = next;
    next += whole(n);
    return piece;
  }
};

// One request's history without the invalid positions.
struct History {
  const Attention& shape;
  const float* history;
  const float* values;
  int64_t* places;  // [J] of the valid positions
  int64_t count = 0;

  History(const Attention& of, int64_t b, int64_t* memory)
      : shape(of),
        history(of.history + b * of.L * of.H),
        values(of.values + b * of.L * of.D),
        places(memory) {
    for (int64_t l = 0; l < of.L; ++l)
      if (of.mask[b * of.L + l]) places[count++] = l;
  }
  inline const float* part(int64_t j) const { return history + places[j] * shape.H; }
  inline const float* value(int64_t j) const { return values + places[j] * shape.D; }
};

// to[i, j] = sign * row(j)[i], four by four so that neither side walks far.
template <class Row>
inline void transpose(const Row& row, int64_t count, int64_t n, float sign, float* to, int64_t step) {
  for (int64_t j = 0; j < count; j += 4) {
    const float* rows[4];
    for (int64_t k = 0; k < 4; ++k) rows[k] = row(std::min(j + k, count - 1));
    float* column = to + j;
    for (int64_t i = 0; i < n; ++i, column += step)
      for (int64_t k = 0; k < 4; ++k) column[k] = sign * rows[k][i];
  }
  for (int64_t i = 0; i < n; ++i)
    std::fill(to + i * step + count, to + (i + 1) * step, 0.0f);
}

inline void copy_padded(float* to, const float* from, int64_t n, int64_t size) {
  int64_t i = 0;
  for (; i + W <= n; i += W) Simd::store(to + i, Simd::load(from + i));
  for (; i < n; ++i) to[i] = from[i];
  for (; i < size; ++i) to[i] = 0.0f;
}

// The i-th of n picked rows of the pool, copied; a later one is asked for.
inline void take_pick(const float* pool, const int64_t* picks, int64_t i, int64_t n, int64_t size,
                      float* to, int64_t padded) {
  if (i + LATER < n)
    for (int64_t h = 0; h < size; h += LINE) ask_for(pool + picks[i + LATER] * size + h);
  copy_padded(to, pool + picks[i] * size, size, padded);
}

inline int64_t forward_floats(const Attention& a) {
  const int64_t Lp = whole(a.L), Hp = whole(a.H), Dp = whole(a.D);
  return Hp * Lp + Lp + a.L * Dp + BLOCK * (Lp + Dp + Hp) + Hp;
}

inline void attend(const Attention& a, int64_t b, float* weights, float* out, Scratch scratch,
                   int64_t* places) {
  const History past(a, b, places);
  const int64_t J = past.count, Jp = whole(J), Dp = whole(a.D);
  if (J == 0) return std::fill(out, out + a.N * a.D, 0.0f);
  float* x = scratch.take(a.H * Jp);
  float* start = scratch.take(Jp);
  float* values = scratch.take(J * Dp);
  float* logits = scratch.take(BLOCK * Jp);
  float* attended = scratch.take(BLOCK * Dp);
  float* candidates = scratch.take(BLOCK * a.H);
  float* weight = scratch.take(a.H);
  transpose([&](int64_t j) { return past.part(j); }, J, a.H, -1.0f, x, Jp);
  std::fill(start + J, start + Jp, 0.0f);
  for (int64_t j = 0; j < J; ++j) {
    start[j] = poison(past.part(j), a.H);
    copy_padded(values + j * Dp, past.value(j), a.D, Dp);
  }
  for (int64_t h = 0; h < a.H; ++h) weight[h] = -a.weight[h];
  for (int64_t first = 0; first < a.N; first += BLOCK) {
    const int64_t n = std::min(BLOCK, a.N - first);
    const int64_t* picks = a.picks + b * a.N + first;
    for (int64_t i = 0; i < n; ++i)
      take_pick(a.candidates, picks, i, n, a.H, candidates + i * a.H, a.H);
    cover(Logits{x, Jp, candidates, a.H, weight, a.H, start, logits, Jp}, n, Jp / W);
    for (int64_t i = 0; i < n; ++i)
      softmax(logits + i * Jp, J,
              poison(candidates + i * a.H, a.H) + poison(logits + i * Jp, J));
    cover(Product{logits, Jp, 1, values, Dp, J, attended, Dp, false}, n, Dp / W);
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(attended + i * Dp, a.D, out + (first + i) * a.D);
      if (weights) std::copy_n(logits + i * Jp, J, weights + (first + i) * a.L);
    }
  }
}

inline void attention(const Attention& a, float* weights, float* out, int threads) {
  const int64_t size = whole(forward_floats(a));
  Workspaces spaces(threads, size, a.L);
  spaces.run(a.B, [&](int64_t b, float* memory, int64_t* places) {
    attend(a, b, weights ? weights + b * a.N * a.L : nullptr, out + b * a.N * a.D, Scratch{memory},
           places);
  });
}
