// Cross-entropy of DFTopK's soft membership, and its gradient, in one pass over a row.
//
// With z = (x - theta) / tau and s = z for a label of 0, -z for a label of 1, an entry's loss is
// softplus(s) = max(s, 0) + log1p(e) with e = exp(-|s|), and its slope in z is +-sigmoid(s).
// Logarithms are taken rarely: the factors 1 + e are multiplied first, and their product is carried
// as product - 1, so that losses far below the spacing of floats at 1 still count.

// How many vectors a tally takes before its factors, each at most 2, could leave the range.
constexpr int TALLY = 60;

// A sum of losses on its way.
struct Tally {
  Simd::Floats product;
  Simd::Floats linear;
  Simd::Floats farthest;  // -|s| at its largest
  int vectors;
  double loss;

  // Not a constructor: compilers give those no vector instructions.
  static inline Tally empty() { return {Simd::all(0.0f), Simd::all(0.0f), Simd::all(0.0f), 0, 0.0}; }

  inline bool infinite() const { return Simd::smallest(farthest) < -LIMIT; }

  inline void settle() {
    float lanes[Simd::width];
    double product_less_1[Simd::width];
    Simd::store(lanes, product);
    for (int i = 0; i < Simd::width; ++i) product_less_1[i] = lanes[i];
    for (int half = Simd::width / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) {
        const double a = product_less_1[i], b = product_less_1[i + half];
        product_less_1[i] = a + b + a * b;
      }
    }
    loss += std::log1p(product_less_1[0]) + LN2 * Simd::sum(linear);
    product = linear = Simd::all(0.0f);
    vectors = 0;
  }
};

// Where the entries tied with a boundary lie, as long as they are few.
struct Ties {
  static constexpr int room = 48;
  int64_t at[room];
  int64_t uppers = 0;
  int64_t lowers = 0;
  int64_t known = 0;

  // Lanes that are tied with either, as bits, in the vector that starts at entry i.
  inline void note(int64_t i, uint32_t is_upper, uint32_t is_lower) {
    uppers += __builtin_popcount(is_upper);
    lowers += __builtin_popcount(is_lower);
    if (known > room) return;
    for (uint32_t rest = is_upper | is_lower; rest; rest &= rest - 1, ++known)
      if (known < room) at[known] = i + __builtin_ctz(rest);
  }
};

struct Pass {
  Boundary boundary;
  float theta;
  float per_tau;  // log2(e) / tau: |z| in powers of two
  float scale;    // of a slope on its way into the gradient
};

// Adds a part's losses to the tally, writes its slopes, notes its ties; returns the sum of slopes.
template <bool with_grad, bool masked>
struct Loser {
  Row row;
  const uint8_t* labels;
  float* grad;
  const Pass& pass;
  int64_t offset;
  Ties& ties;

  // The pass in registers: the compiler cannot know that no gradient is stored over it.
  struct Constants {
    Simd::Floats theta, per_tau, scale, upper, lower, nearest;
  };

  inline Constants constants() const {
    const auto fall = [&](float x) { return -std::fabs((x - pass.theta) * pass.per_tau); };
    const float upper = fall(pass.boundary.upper), lower = fall(pass.boundary.lower);
    return {Simd::all(pass.theta),          Simd::all(pass.per_tau),
            Simd::all(pass.scale),          Simd::all(pass.boundary.upper),
            Simd::all(pass.boundary.lower), Simd::all(upper < lower ? upper : lower)};
  }

  // `present` lanes from entry i on; invalid ones get a loss and a slope of 0.
  template <bool whole>
  inline void step(int64_t i, int present, const Constants& at, Tally& tally,
                   Simd::Floats& slopes) {
    const Simd::Floats zero = Simd::all(0.0f), one = Simd::all(1.0f);
    const Simd::Floats x =
        whole ? Simd::load(row.x + i) : Simd::load_first(row.x + i, present, 0.0f);
    const Simd::Mask label =
        whole ? Simd::flags(labels + i) : Simd::flags_first(labels + i, present);
    Simd::Floats s = Simd::mul(Simd::sub(x, at.theta), at.per_tau);
    s = Simd::negate_where(label, s);
    Simd::Mask valid = Simd::first(present);
    if (masked) {
      valid = whole ? Simd::flags(row.valid + i) : Simd::flags_first(row.valid + i, present);
    }
    if (masked || !whole) s = Simd::select(valid, s, Simd::all(-LIMIT));
    const Simd::Floats fall = Simd::below_zero(s);
    const Simd::Floats e = Simd::exp2_below(fall);
    const Simd::Mask rises = Simd::above(s, zero);
    tally.farthest = Simd::min(tally.farthest, fall);
    tally.linear = Simd::add_where(rises, tally.linear, s);
    tally.product = Simd::fma(e, Simd::add(one, tally.product), tally.product);
    if (!with_grad) return;
    const Simd::Floats r = Simd::reciprocal(Simd::add(one, e));
    const Simd::Floats sigmoid = Simd::select(rises, r, Simd::mul(e, r));
    const Simd::Floats slope = Simd::mul(Simd::negate_where(label, sigmoid), at.scale);
    slopes = Simd::add(slopes, slope);
    if (whole) {
      Simd::store(grad + i, slope);
    } else {
      Simd::store_first(grad + i, present, slope);
    }
    // No entry lies between the boundaries, so those nearest to theta are the tied ones.
    if (Simd::bits(Simd::at_least(fall, at.nearest))) {
      const uint32_t lanes = Simd::bits(valid);
      ties.note(offset + i, lanes & Simd::bits(Simd::equal(x, at.upper)),
           lanes & Simd::bits(Simd::equal(x, at.lower)));
    }
  }

  inline double operator()(Tally& tally) {
    const Constants at = constants();
    double sum = 0.0;
    int64_t i = 0;
    while (i < row.n) {
      if (tally.vectors == TALLY) tally.settle();
      Tally here = tally;
      Simd::Floats slopes = Simd::all(0.0f);
      for (; here.vectors < TALLY && i + Simd::width <= row.n; i += Simd::width, ++here.vectors)
        step<true>(i, Simd::width, at, here, slopes);
      if (here.vectors < TALLY && i < row.n) {
        step<false>(i, static_cast<int>(row.n - i), at, here, slopes);
        i = row.n;
        ++here.vectors;
      }
      tally = here;
      sum += Simd::sum(slopes);
    }
    return sum;
  }
};
