// Gradients of target attention; compiled once on top of each simd_*.h. Legend: see attention.h.
//
// h + c > 0 exactly where c > -h, so a comparison and two masked additions a hidden unit are enough:
//   G[j] = sum_n ds[n, j] [h[j] + c[n] > 0],   C[n] = sum_j ds[n, j] [h[j] + c[n] > 0],
//   dh[j] = w G[j],   dc[n] = w C[n],   dw = sum_j h[j] G[j] + sum_n c[n] C[n],
// where ds is the gradient of the logits.

constexpr int MASKED = W == 16 ? 8 : 4;  // candidates whose masked sums are made together

// Masked sums of R candidates over the whole history: see C and G above.
template <int R>
inline void masked_sums(const float* negated, const float* slopes, int64_t slope_step, int64_t J,
                        int64_t Hp, const float* candidates, float* own, float* shared) {
  for (int64_t h = 0; h < Hp; h += W) {
    Floats candidate[R], sums[R];
    for (int r = 0; r < R; ++r) {
      candidate[r] = Simd::load(candidates + r * Hp + h);
      sums[r] = Simd::all(0.0f);
    }
    for (int64_t j = 0; j < J; ++j) {
      const Floats history = Simd::load(negated + j * Hp + h);
      Floats sum = Simd::load(shared + j * Hp + h);
      for (int r = 0; r < R; ++r) {
        const Simd::Mask active = Simd::above(candidate[r], history);
        const Floats slope = Simd::all(slopes[r * slope_step + j]);
        sums[r] = Simd::add_where(active, sums[r], slope);
        sum = Simd::add_where(active, sum, slope);
      }
      Simd::store(shared + j * Hp + h, sum);
    }
    for (int r = 0; r < R; ++r) Simd::store(own + r * Hp + h, sums[r]);
  }
}
// Gradient of the logits, in the place of that of the weights: both [J], padded with 0.
inline void softmax_slopes(const float* weights, float* slopes, int64_t Jp) {
  Floats sum = Simd::all(0.0f);
  for (int64_t j = 0; j < Jp; j += W)
    sum = Simd::fma(Simd::load(weights + j), Simd::load(slopes + j), sum);
  const Floats mean = Simd::all(static_cast<float>(Simd::sum(sum)));
  for (int64_t j = 0; j < Jp; j += W)
    Simd::store(slopes + j, Simd::mul(Simd::load(weights + j), Simd::sub(Simd::load(slopes + j), mean)));
}

// sum[h] += x[h] * y[h] and y[h] *= weight[h]
inline void weigh(const float* x, float* y, const float* weight, float* sum, int64_t n) {
  for (int64_t h = 0; h < n; h += W) {
    const Floats factor = Simd::load(y + h);
    Simd::store(sum + h, Simd::fma(Simd::load(x + h), factor, Simd::load(sum + h)));
    Simd::store(y + h, Simd::mul(Simd::load(weight + h), factor));
  }
}

inline int64_t backward_floats(const Attention& a) {
  const int64_t Lp = whole(a.L), Hp = whole(a.H), Dp = whole(a.D);
  return 2 * a.L * Hp + Dp * Lp + a.L * Dp + BLOCK * (2 * Lp + Dp + 2 * Hp) + 2 * Hp;
}

// Gradients of one request. `own` [N, H] is what its candidates add to those of the pool, and
// `weight_grad` [H] what it adds to that of the weight.
inline void attend_backward(const Attention& a, int64_t b, const float* weights, const float* grad,
                            const Gradients& to, float* own, float* weight_grad, Scratch scratch,
                            int64_t* places) {
  const History past(a, b, places);
  const int64_t J = past.count, Jp = whole(J), Hp = whole(a.H), Dp = whole(a.D);
  float* history_grad = to.history + b * a.L * a.H;
  float* values_grad = to.values + b * a.L * a.D;
  std::fill(history_grad, history_grad + a.L * a.H, 0.0f);
  std::fill(values_grad, values_grad + a.L * a.D, 0.0f);
  std::fill(weight_grad, weight_grad + a.H, 0.0f);
  if (J == 0) return std::fill(own, own + a.N * a.H, 0.0f);
  float* negated = scratch.take(J * Hp);
  float* shared = scratch.take(J * Hp);
  float* values = scratch.take(a.D * Jp);
  float* value_sums = scratch.take(J * Dp);
  float* held = scratch.take(BLOCK * Jp);
  float* slopes = scratch.take(BLOCK * Jp);
  float* grads = scratch.take(BLOCK * Dp);
  float* candidates = scratch.take(BLOCK * Hp);
  float* sums = scratch.take(BLOCK * Hp);
  float* weight = scratch.take(Hp);
  float* weight_sums = scratch.take(Hp);
  for (int64_t j = 0; j < J; ++j) {
    copy_padded(negated + j * Hp, past.part(j), a.H, Hp);
    for (int64_t h = 0; h < a.H; ++h) negated[j * Hp + h] = -negated[j * Hp + h];
  }
  std::fill(shared, shared + J * Hp, 0.0f);
  std::fill(value_sums, value_sums + J * Dp, 0.0f);
  std::fill(weight_sums, weight_sums + Hp, 0.0f);
  copy_padded(weight, a.weight, a.H, Hp);
  transpose([&](int64_t j) { return past.value(j); }, J, a.D, 1.0f, values, Jp);
  for (int64_t first = 0; first < a.N; first += BLOCK) {
    const int64_t n = std::min(BLOCK, a.N - first);
    const int64_t* picks = a.picks + b * a.N + first;
    for (int64_t i = 0; i < n; ++i) {
      take_pick(a.candidates, picks, i, n, a.H, candidates + i * Hp, Hp);
      copy_padded(held + i * Jp, weights + (first + i) * a.L, J, Jp);
      copy_padded(grads + i * Dp, grad + (first + i) * a.D, a.D, Dp);
    }
    cover(Product{grads, Dp, 1, values, Jp, a.D, slopes, Jp, false}, n, Jp / W);
    cover(Product{held, 1, Jp, grads, Dp, n, value_sums, Dp, true}, J, Dp / W);
    for (int64_t i = 0; i < n; ++i) softmax_slopes(held + i * Jp, slopes + i * Jp, Jp);
    int64_t done = 0;
    for (; done + MASKED <= n; done += MASKED)
      masked_sums<MASKED>(negated, slopes + done * Jp, Jp, J, Hp, candidates + done * Hp,
                          sums + done * Hp, shared);
    for (; done < n; ++done)
      masked_sums<1>(negated, slopes + done * Jp, Jp, J, Hp, candidates + done * Hp,
                     sums + done * Hp, shared);
    for (int64_t i = 0; i < n; ++i) {
      weigh(candidates + i * Hp, sums + i * Hp, weight, weight_sums, Hp);
      std::copy_n(sums + i * Hp, a.H, own + (first + i) * a.H);
    }
  }
  // From here on `candidates` holds one position of the history, its sign restored.
  for (int64_t j = 0; j < J; ++j) {
    copy_padded(candidates, past.part(j), a.H, Hp);
    weigh(candidates, shared + j * Hp, weight, weight_sums, Hp);
    std::copy_n(shared + j * Hp, a.H, history_grad + past.places[j] * a.H);
    std::copy_n(value_sums + j * Dp, a.D, values_grad + past.places[j] * a.D);
  }
  std::copy_n(weight_sums, a.H, weight_grad);
}

inline void attention_backward(const Attention& a, const float* weights, const float* grad,
                               const Gradients& to, int threads) {
  // Requests are done in groups, so that what they add to the pool takes bounded memory. It is added
  // in the order of the requests, whichever thread does it: threads change no bit.
  const int64_t group = std::max<int64_t>(threads, GROUP_FLOATS / std::max<int64_t>(1, a.N * a.H));
  const int64_t most = std::min(group, a.B);
  const Memory<float> own(most * a.N * a.H), weight_grads(most * a.H);
  std::vector<double> weight_sums(static_cast<size_t>(a.H));
  Workspaces spaces(threads, whole(backward_floats(a)), a.L);
  for (int64_t first = 0; first < a.B; first += group) {
    const int64_t count = std::min(group, a.B - first);
    spaces.run(count, [&](int64_t i, float* memory, int64_t* places) {
      const int64_t b = first + i;
      attend_backward(a, b, weights + b * a.N * a.L, grad + b * a.N * a.D, to,
                      own.at(i * a.N * a.H), weight_grads.at(i * a.H), Scratch{memory}, places);
    });
    const int64_t* picks = a.picks + first * a.N;
    parallel(threads, threads, [&](int64_t owner) {
      for (int64_t i = 0; i < count * a.N; ++i) {
        const int64_t item = picks[i];
        if (item % threads != owner) continue;
        if (i + LATER < count * a.N)
          for (int64_t h = 0; h < a.H; h += LINE) ask_for(to.candidates + picks[i + LATER] * a.H + h);
        float* __restrict sum = to.candidates + item * a.H;
        const float* __restrict term = own.at(i * a.H);
        for (int64_t h = 0; h < a.H; ++h) sum[h] += term[h];
      }
    });
    for (int64_t i = 0; i < count; ++i)
      for (int64_t h = 0; h < a.H; ++h)
        weight_sums[static_cast<size_t>(h)] += *weight_grads.at(i * a.H + h);
  }
  for (int64_t h = 0; h < a.H; ++h)
    to.weight[h] = static_cast<float>(weight_sums[static_cast<size_t>(h)]);
}
