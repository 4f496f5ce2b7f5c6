// Sums of products in tiles that stay in registers; compiled once on top of each simd_*.h.

using Floats = Simd::Floats;
constexpr int W = Simd::width;
constexpr int ROWS = W == 16 ? 4 : 2;  // of a tile
constexpr int VECTORS = 4;             // across a tile

inline int64_t whole(int64_t n) { return (n + W - 1) / W * W; }

// Calls work.tile<R, C>(row, vector) so that tiles cover everything: of ROWS x VECTORS where they fit,
// of one row and of fewer vectors at the edges.
template <int R, int C, class Work>
inline void tile_of(const Work& work, int64_t vectors, int64_t row, int64_t vector) {
  if (vectors == C) return work.template tile<R, C>(row, vector);
  if constexpr (C > 1) tile_of<R, C - 1>(work, vectors, row, vector);
}
template <class Work>
inline void cover(const Work& work, int64_t rows, int64_t vectors) {
  for (int64_t v = 0; v < vectors; v += VECTORS) {
    const int64_t across = std::min<int64_t>(VECTORS, vectors - v);
    int64_t r = 0;
    for (; r + ROWS <= rows; r += ROWS) tile_of<ROWS, VECTORS>(work, across, r, v);
    for (; r < rows; ++r) tile_of<1, VECTORS>(work, across, r, v);
  }
}

// out[n, j] = start[j] + sum_h weight[h] * min(x[h, j], c[n, h])
struct Logits {
  const float* x;
  int64_t x_step;
  const float* c;
  int64_t c_step;
  const float* weight;
  int64_t depth;
  const float* start;
  float* out;
  int64_t out_step;

  template <int R, int C>
  inline void tile(int64_t row, int64_t vector) const {
    const float* from = x + vector * W;
    const float* candidates = c + row * c_step;
    Floats sums[R][C];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < C; ++v) sums[r][v] = Simd::load(start + (vector + v) * W);
    for (int64_t h = 0; h < depth; ++h, from += x_step) {
      Floats history[C];
      for (int v = 0; v < C; ++v) history[v] = Simd::load(from + v * W);
      const Floats factor = Simd::all(weight[h]);
      for (int r = 0; r < R; ++r) {
        const Floats candidate = Simd::all(candidates[r * c_step + h]);
        for (int v = 0; v < C; ++v)
          sums[r][v] = Simd::fma(factor, Simd::min(history[v], candidate), sums[r][v]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < C; ++v)
        Simd::store(out + (row + r) * out_step + (vector + v) * W, sums[r][v]);
  }
};

// out[r, i] (+)= sum_k a[r * a_row + k * a_step] * x[k, i]
struct Product {
  const float* a;
  int64_t a_row;
  int64_t a_step;
  const float* x;
  int64_t x_step;
  int64_t depth;
  float* out;
  int64_t out_step;
  bool adds;

  template <int R, int C>
  inline void tile(int64_t row, int64_t vector) const {
    const float* factors = a + row * a_row;
    const float* from = x + vector * W;
    float* to = out + row * out_step + vector * W;
    Floats sums[R][C];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < C; ++v)
        sums[r][v] = adds ? Simd::load(to + r * out_step + v * W) : Simd::all(0.0f);
    for (int64_t k = 0; k < depth; ++k, from += x_step, factors += a_step) {
      Floats vectors[C];
      for (int v = 0; v < C; ++v) vectors[v] = Simd::load(from + v * W);
      for (int r = 0; r < R; ++r) {
        const Floats factor = Simd::all(factors[r * a_row]);
        for (int v = 0; v < C; ++v) sums[r][v] = Simd::fma(factor, vectors[v], sums[r][v]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < C; ++v) Simd::store(to + r * out_step + v * W, sums[r][v]);
  }
};
