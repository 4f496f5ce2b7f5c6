// The threshold theta of a row at which soft memberships F((x - theta) / tau) add up to k.
//
// Everything is measured from the k-th largest score, the origin, so that a float is fine enough for
// the place of theta however large the scores are. Newton's method starts in the gap between the k-th
// and the (k+1)-th largest, and is kept in a bracket by bisection. In the smooth families log F' has
// slope at most 1, so a step of rho tau, rho < 1/2, ends within 2 rho^2 tau of the root.

// F by its number: the distribution functions of Laplace(0, 1), of the logistic distribution, and of
// the uniform distribution on [0, 1].
enum Family { LAPLACE = 0, LOGISTIC = 1, BOX = 2 };

// Beyond this many tau from theta a tail is too small to be summed.
constexpr float FAR_TAIL = 87.0f;
// A sum of densities below this comes from tails that were cut, and says nothing.
constexpr double FLAT = 1e-28;
// In a wider gap, in tau, the tails on both sides are exponentials and theta has a closed form.
constexpr double DEEP = 100.0;

// Sum of F less the count of F >= 1/2, that count, and the sum of F'.
struct Sums {
  double lack = 0.0;
  double above = 0.0;
  double slope = 0.0;
};

// What a row's search knows: theta is at origin + offset.
struct Search {
  Row row;
  float origin;
  float per_tau;
  double k;
};

template <int family>
static Sums sums_of(const Search& search, Row part, double offset) {
  const float near = static_cast<float>(offset);
  const Simd::Floats origin = Simd::all(search.origin), theta = Simd::all(near);
  const Simd::Floats rest = Simd::all(static_cast<float>(offset - static_cast<double>(near)));
  const Simd::Floats per_tau = Simd::all(search.per_tau), zero = Simd::all(0.0f);
  const Simd::Floats one = Simd::all(1.0f), half = Simd::all(0.5f), far = Simd::all(-FAR_TAIL);
  const Simd::Floats log2e = Simd::all(static_cast<float>(LOG2E));
  Sums sums;
  constexpr int64_t block = 32 * Simd::width;
  for (int64_t start = 0; start < part.n; start += block) {
    const int64_t length = part.n - start < block ? part.n - start : block;
    Simd::Floats lack = zero, slope = zero;
    int64_t above = 0;
    scan(part.part(start, length), [&](Simd::Floats x) {
      const Simd::Floats y = Simd::sub(Simd::sub(Simd::sub(x, origin), theta), rest);
      const Simd::Floats z = Simd::mul(y, per_tau);
      if (family == BOX) {
        const Simd::Floats soft = Simd::min(Simd::max(z, zero), one);
        const Simd::Mask over = Simd::at_least(soft, half);
        above += Simd::count(over);
        lack = Simd::add(lack, Simd::sub(soft, Simd::select(over, one, zero)));
        const Simd::Mask inside = Simd::both(Simd::above(soft, zero), Simd::above(one, soft));
        slope = Simd::add_where(inside, slope, one);
        return;
      }
      const Simd::Mask over = Simd::at_least(z, zero);
      const Simd::Floats fall = Simd::max(Simd::below_zero(z), far);
      const Simd::Floats e = Simd::exp2_below(Simd::mul(fall, log2e));
      const Simd::Floats tail =
          family == LAPLACE ? Simd::mul(half, e) : Simd::mul(e, Simd::reciprocal(Simd::add(one, e)));
      above += Simd::count(over);
      lack = Simd::add(lack, Simd::negate_where(over, tail));
      const Simd::Floats rise =
          family == LAPLACE ? tail : Simd::sub(tail, Simd::mul(tail, tail));
      slope = Simd::add(slope, rise);
    });
    sums.lack += Simd::sum(lack);
    sums.slope += Simd::sum(slope);
    sums.above += static_cast<double>(above);
  }
  return sums;
}

// The sums over the whole row, whose last chunk carries lanes past the end at -inf: tails of e^-87.
template <int family>
static Sums sums_of(const Search& search, double offset, int threads) {
  if (search.row.n < LONG) return sums_of<family>(search, search.row, offset);
  const int64_t chunks = chunks_of(search.row.n);
  std::vector<Sums> parts(static_cast<size_t>(chunks));
  parallel(chunks, threads, [&](int64_t chunk) {
    const Row part = search.row.part(chunk * CHUNK, chunk_length(search.row.n, chunk));
    parts[static_cast<size_t>(chunk)] = sums_of<family>(search, part, offset);
  });
  Sums sums;
  for (const Sums& part : parts) {
    sums.lack += part.lack;
    sums.above += part.above;
    sums.slope += part.slope;
  }
  return sums;
}

// The inverse of F, for 0 < share < 1.
static inline double quantile(int family, double share) {
  if (family == BOX) return share;
  if (family == LOGISTIC) return std::log(share) - std::log1p(-share);
  const double side = share - 0.5;
  return std::copysign(-std::log1p(-2.0 * std::fabs(side)), side);
}

// Where theta lies in a gap: the tails of the scores above balance those of the scores below.
static double balance(const Search& search, double gap, double tau) {
  const Simd::Floats origin = Simd::all(search.origin), lower = Simd::all(static_cast<float>(-gap));
  const Simd::Floats per_tau = Simd::all(search.per_tau * static_cast<float>(LOG2E));
  const Simd::Floats zero = Simd::all(0.0f);
  double tops = 0.0, others = 0.0;
  constexpr int64_t block = 32 * Simd::width;
  for (int64_t start = 0; start < search.row.n; start += block) {
    const int64_t left = search.row.n - start;
    Simd::Floats top = zero, other = zero;
    scan(search.row.part(start, left < block ? left : block), [&](Simd::Floats x) {
      const Simd::Floats y = Simd::sub(x, origin);
      const Simd::Mask over = Simd::at_least(y, zero);
      const Simd::Floats distance = Simd::select(over, y, Simd::sub(y, lower));
      const Simd::Floats weight = Simd::exp2_below(Simd::below_zero(Simd::mul(distance, per_tau)));
      top = Simd::add_where(over, top, weight);
      other = Simd::add(other, Simd::select(over, zero, weight));
    });
    tops += Simd::sum(top);
    others += Simd::sum(other);
  }
  return -gap / 2 + tau / 2 * (std::log(others < 1.0 ? 1.0 : others) - std::log(tops));
}

template <int family>
static double find_offset(const Search& search, double gap, double tau, int threads) {
  const double n = static_cast<double>(search.row.n);
  double offset = -gap / 2;
  if (family == BOX) {
    if (gap >= tau) return -(gap + tau) / 2;
    offset -= tau / 2;
  } else if (gap > std::numeric_limits<float>::max()) {
    return offset;
  } else if (gap > tau) {
    offset = balance(search, gap, tau);
    if (gap > DEEP * tau) return offset;
  }
  double low = -gap - tau * quantile(family, search.k / (search.k + 1.0));
  double high = -tau * quantile(family, 1.0 / (n - search.k + 1.0));
  offset = std::min(std::max(offset, low), high);
  const double epsilon = std::numeric_limits<float>::epsilon();
  const double tolerance = family == BOX ? 32 * epsilon : std::sqrt(epsilon);
  for (int pass = 0; pass < 100; ++pass) {
    const Sums sums = sums_of<family>(search, offset, threads);
    const double excess = sums.above - search.k + sums.lack;
    if (excess >= 0) low = offset;
    if (excess <= 0) high = offset;
    const double rho = excess / std::max(sums.slope, FLAT);
    const bool close = std::fabs(rho) <= tolerance && (sums.slope > FLAT || family == BOX);
    const double target = offset + tau * rho;
    const bool taken = close || (target >= low && target <= high);
    offset = taken ? target : low / 2 + high / 2;
    if (close) break;
  }
  return offset;
}

// Theta of one row as a float, and what rounding took from it.
static void find_threshold(Row row, int64_t k, double tau, int family, Boundary cut, int threads,
                           float* theta, float* rest) {
  *rest = 0.0f;
  if (std::isnan(cut.upper)) {
    *theta = NAN;
  } else if (cut.upper == INF || k < 1) {
    *theta = LIMIT;
  } else if (cut.lower == -INF) {
    *theta = -LIMIT;
  } else {
    const double origin = cut.upper, gap = origin - static_cast<double>(cut.lower);
    const Search search{row, cut.upper, static_cast<float>(1.0 / tau), static_cast<double>(k)};
    const double offset = family == LAPLACE    ? find_offset<LAPLACE>(search, gap, tau, threads)
                          : family == LOGISTIC ? find_offset<LOGISTIC>(search, gap, tau, threads)
                                               : find_offset<BOX>(search, gap, tau, threads);
    *theta = static_cast<float>(origin + offset);
    *rest = static_cast<float>(origin - static_cast<double>(*theta) + offset);
  }
}

static void thresholds(const Scores& scores, double tau, int family, float* theta, float* rest,
                       int threads) {
  const auto find = [&](int64_t b, Boundary cut, int inner) {
    find_threshold(row_of(scores, b), scores.k_of(b), tau, family, cut, inner, theta + b, rest + b);
  };
  const auto decided = [&](int64_t b) {
    if (!scores.decided(b)) return false;
    theta[b] = scores.k_of(b) < 1 ? LIMIT : -LIMIT;
    rest[b] = 0.0f;
    return true;
  };
  if (scores.n >= LONG) {
    for (int64_t b = 0; b < scores.rows; ++b)
      if (!decided(b))
        find(b, select_long(row_of(scores, b), scores.k_of(b), threads), threads);
    return;
  }
  const int64_t piece = ENTRIES_PER_PIECE / scores.n + 1;
  parallel((scores.rows + piece - 1) / piece, threads, [&](int64_t at) {
    std::unique_ptr<float[]> scratch(new float[static_cast<size_t>(scratch_for(scores.n))]);
    Hint hint;
    for (int64_t b = at * piece; b < (at + 1) * piece && b < scores.rows; ++b)
      if (!decided(b))
        find(b, select_near(row_of(scores, b), scores.k_of(b), scratch.get(), hint), 1);
  });
}
