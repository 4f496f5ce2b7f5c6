// Cross-entropy of surviving every stage's top-k, and its gradient in the scores of all stages.
//
// With a_t = (x_t - theta_t) / tau an entry survives with P = sigmoid(a_1) ... sigmoid(a_T). A label of
// 1 costs the sum of softplus(-a_t). A label of 0 costs -log(1 - P), where 1 - P is never computed as
// such: Q_1 = sigmoid(-a_1), Q_t = sigmoid(-a_t) + sigmoid(a_t) Q_(t-1) adds what is positive, and is
// carried as q = Q exp(m), m = max(min a_t - log T, 0), which lies in [1 / 2T, 1] whatever the scores.
// As in cross_entropy.h logarithms are of products of factors, and powers are of 2.

constexpr int STAGES = 8;

// The stages that decide about a row.
struct Cuts {
  int count = 0;
  float log2_count = 0.0f;
  int stage[STAGES];
  Pass pass[STAGES];
};

struct Survival {
  Simd::Floats sigmoid;    // of a_t
  Simd::Floats failing;    // sigmoid(-a_t)
  Simd::Floats scaled;     // sigmoid(-a_t) exp(m)
  Simd::Floats power;      // a_t log2(e)
  Simd::Floats e;          // exp(-|a_t|)
};

template <bool with_grad>
struct JointLoser {
  const Joint& joint;
  const Cuts& cuts;
  const uint8_t* labels;
  const uint8_t* valid;
  int64_t start;  // of the row
  int64_t n;
  Simd::Floats slopes[STAGES];  // summed since the last settling
  double settled[STAGES];
  Ties ties[STAGES];

  inline Simd::Floats load(const float* from, int present) {
    return present == Simd::width ? Simd::load(from) : Simd::load_first(from, present, 0.0f);
  }
  inline Simd::Mask flags(const uint8_t* from, int present) {
    return present == Simd::width ? Simd::flags(from) : Simd::flags_first(from, present);
  }

  inline void step(int64_t i, int present, Tally& tally) {
    const Simd::Floats zero = Simd::all(0.0f), one = Simd::all(1.0f);
    const Simd::Mask label = flags(labels + i, present);
    const Simd::Mask counts = valid ? flags(valid + i, present) : Simd::first(present);
    Survival at[STAGES];
    Simd::Floats least = Simd::all(INF), chance = one, farthest = zero, shortfall = zero;
    Simd::Floats product = tally.product;
    for (int t = 0; t < cuts.count; ++t) {
      const Pass& pass = cuts.pass[t];
      const Simd::Floats x = load(joint.x[cuts.stage[t]] + start + i, present);
      Simd::Floats a = Simd::mul(Simd::sub(x, Simd::all(pass.theta)), Simd::all(pass.per_tau));
      a = Simd::select(counts, a, zero);
      const Simd::Floats fall = Simd::below_zero(a), e = Simd::exp2_below(fall);
      const Simd::Floats r = Simd::reciprocal(Simd::add(one, e)), er = Simd::mul(e, r);
      const Simd::Mask rises = Simd::above(a, zero);
      at[t] = {Simd::select(rises, r, er), Simd::select(rises, er, r), zero, a, e};
      least = Simd::min(least, a);
      chance = Simd::mul(chance, at[t].sigmoid);
      farthest = Simd::min(farthest, fall);
      shortfall = Simd::sub(shortfall, Simd::min(a, zero));
      const Simd::Floats growth = Simd::select(Simd::both(label, counts), e, zero);
      product = Simd::fma(growth, Simd::add(one, product), product);
    }
    const Simd::Floats m = Simd::max(Simd::sub(least, Simd::all(cuts.log2_count)), zero);
    Simd::Floats q = zero;
    for (int t = 0; t < cuts.count; ++t) {
      // exp(m) sigmoid(-a) with a > 0 is exp(m - a) / (1 + exp(-a)); with a <= 0, m is 0.
      const Simd::Floats a = at[t].power;
      const Simd::Floats lifted =
          Simd::mul(Simd::exp2_below(Simd::sub(m, Simd::max(a, m))), at[t].sigmoid);
      at[t].scaled = Simd::select(Simd::above(a, zero), lifted, at[t].failing);
      q = Simd::add(at[t].scaled, Simd::mul(at[t].sigmoid, q));
    }
    const Simd::Floats per_q = Simd::reciprocal(q);
    const Simd::Floats lost = Simd::select(Simd::above(m, zero), Simd::sub(one, q), chance);
    const Simd::Mask fails = Simd::without(counts, label);
    const Simd::Floats growth =
        Simd::select(fails, Simd::max(Simd::mul(lost, per_q), zero), zero);
    tally.product = Simd::fma(growth, Simd::add(one, product), product);
    tally.linear = Simd::add_where(counts, tally.linear, Simd::select(label, shortfall, m));
    tally.farthest = Simd::min(tally.farthest, farthest);
    if (with_grad) slope(i, present, at, label, counts, Simd::mul(chance, per_q));
  }

  inline void slope(int64_t i, int present, const Survival* at, Simd::Mask label,
                    Simd::Mask counts, Simd::Floats odds) {
    const Simd::Floats zero = Simd::all(0.0f);
    for (int t = 0; t < cuts.count; ++t) {
      const Pass& pass = cuts.pass[t];
      const int64_t place = start + i;
      const Simd::Floats slope = Simd::select(label, Simd::sub(zero, at[t].failing),
                                              Simd::mul(odds, at[t].scaled));
      const Simd::Floats scaled =
          Simd::select(counts, Simd::mul(slope, Simd::all(pass.scale)), zero);
      float* grad = joint.grad[cuts.stage[t]] + place;
      if (present == Simd::width) {
        Simd::store(grad, scaled);
      } else {
        Simd::store_first(grad, present, scaled);
      }
      slopes[t] = Simd::add(slopes[t], scaled);
      const Simd::Floats x = load(joint.x[cuts.stage[t]] + place, present);
      const Simd::Mask upper = Simd::equal(x, Simd::all(pass.boundary.upper));
      const Simd::Mask lower = Simd::equal(x, Simd::all(pass.boundary.lower));
      if (Simd::bits(Simd::both(Simd::either(upper, lower), counts))) {
        const uint32_t lanes = Simd::bits(counts);
        ties[t].note(i, lanes & Simd::bits(upper), lanes & Simd::bits(lower));
      }
    }
  }

  inline void settle() {
    for (int t = 0; t < cuts.count; ++t) {
      settled[t] += Simd::sum(slopes[t]);
      slopes[t] = Simd::all(0.0f);
    }
  }

  inline void run(Tally& tally) {
    for (int64_t i = 0; i < n; i += Simd::width) {
      if (tally.vectors + cuts.count > TALLY) {
        tally.settle();
        settle();
      }
      step(i, n - i < Simd::width ? static_cast<int>(n - i) : Simd::width, tally);
      tally.vectors += cuts.count;  // a lane takes a factor of up to 2 a stage
    }
    if (!with_grad) return;
    settle();
    for (int t = 0; t < cuts.count; ++t) {
      const Row row{joint.x[cuts.stage[t]] + start, valid, n};
      share_threshold(row, cuts.pass[t], settled[t], ties[t], joint.grad[cuts.stage[t]] + start);
    }
  }
};

static inline void fill_joint(const Joint& joint, int64_t b, float value) {
  for (int t = 0; joint.grad && t < joint.stages; ++t)
    std::fill_n(joint.grad[t] + b * joint.n, joint.n, value);
}

template <bool with_grad>
static Found lose_joint(const Joint& joint, int64_t from, int64_t to, float* scratch) {
  Hint hints[STAGES];
  Tally tally = Tally::empty();
  Found found;
  for (int64_t b = from; b < to; ++b) {
    fill_joint(joint, b, 0.0f);
    if (!joint.counts(b)) continue;
    const int64_t start = b * joint.n;
    const double weight = joint.weights ? joint.weights[b] : 1.0;
    const float scale = static_cast<float>(weight / joint.total / joint.tau);
    const uint8_t* valid = joint.valid ? joint.valid + start : nullptr;
    Cuts cuts;
    bool nan = false;
    for (int t = 0; t < joint.stages; ++t) {
      if (joint.passes(t, b)) continue;
      const Boundary cut = select_near(Row{joint.x[t] + start, valid, joint.n}, joint.k_of(t, b),
                                       scratch, hints[t]);
      nan = nan || std::isnan(cut.upper);
      cuts.stage[cuts.count] = t;
      cuts.pass[cuts.count++] = {cut, midpoint(cut), static_cast<float>(LOG2E / joint.tau), scale};
    }
    cuts.log2_count = std::log2(static_cast<float>(cuts.count));
    if (nan) {
      fill_joint(joint, b, NAN);
      found.loss = NAN;
      continue;
    }
    JointLoser<with_grad> loser{
        joint, cuts, joint.labels + start, valid, start, joint.n, {}, {}, {}};
    loser.run(tally);
    if (joint.weights) {
      tally.settle();
      found.add({tally.loss, false}, weight);
      tally.loss = 0.0;
    }
  }
  tally.settle();
  found.add({tally.loss, tally.infinite()}, 1.0);
  return found;
}

// As cross_entropy() of rows.h, for all stages at once.
static bool joint_cross_entropy(const Joint& joint, float* mean, int threads) {
  const int64_t piece = ENTRIES_PER_PIECE / joint.n + 1;
  const int64_t pieces = (joint.rows + piece - 1) / piece;
  std::vector<Found> parts(static_cast<size_t>(pieces));
  parallel(pieces, threads, [&](int64_t at) {
    std::unique_ptr<float[]> scratch(new float[static_cast<size_t>(scratch_for(joint.n))]);
    const int64_t from = at * piece, to = std::min(from + piece, joint.rows);
    parts[static_cast<size_t>(at)] = joint.grad
                                         ? lose_joint<true>(joint, from, to, scratch.get())
                                         : lose_joint<false>(joint, from, to, scratch.get());
  });
  Found sum;
  for (const Found& part : parts) sum.add(part, 1.0);
  *mean = static_cast<float>(joint.total > 0.0 ? sum.loss / joint.total : sum.loss);
  return sum.infinite;
}
