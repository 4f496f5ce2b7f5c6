// The k-th and (k+1)-th largest entry of a row in O(n), without moving the row.
//
// A threshold t with exactly k entries at or above it tells both: the smallest entry at or above t
// and the largest below it. Short rows find t by interpolating the count. Longer rows first take a
// bracket from a sample, and look only at what falls into it. Both are guesses that are checked;
// where they fail (ties, infinities, rows made to fool them) 32 halvings of the ordered bit patterns
// of all floats find the answer for certain.

struct Boundary {
  float upper;
  float lower;
};

constexpr int64_t DIRECT = 320;
constexpr int64_t CHUNK = 1 << 16;
constexpr float INF = std::numeric_limits<float>::infinity();
constexpr float LIMIT = std::numeric_limits<float>::max() / 4;
constexpr float LOWEST = std::numeric_limits<float>::lowest();

// A row, or part of one; `valid` is null where every entry is.
struct Row {
  const float* x;
  const uint8_t* valid;
  int64_t n;

  inline Row part(int64_t from, int64_t length) const {
    return {x + from, valid ? valid + from : nullptr, length};
  }
};

// Calls visit(vector) for all entries; invalid ones, and lanes past the end, read -inf.
template <class Visit>
static inline void scan(Row row, Visit visit) {
  int64_t i = 0;
  if (row.valid == nullptr) {
    for (; i + Simd::width <= row.n; i += Simd::width) visit(Simd::load(row.x + i));
    if (i < row.n) visit(Simd::load_first(row.x + i, static_cast<int>(row.n - i), -INF));
    return;
  }
  const Simd::Floats lowest = Simd::all(-INF);
  for (; i + Simd::width <= row.n; i += Simd::width)
    visit(Simd::select(Simd::flags(row.valid + i), Simd::load(row.x + i), lowest));
  if (i < row.n) {
    const int lanes = static_cast<int>(row.n - i);
    visit(Simd::select(Simd::flags_first(row.valid + i, lanes),
                       Simd::load_first(row.x + i, lanes, -INF), lowest));
  }
}

static inline int64_t count_from(Row row, float threshold) {
  const Simd::Floats t = Simd::all(threshold);
  int64_t count = 0;
  scan(row, [&](Simd::Floats x) { count += Simd::count(Simd::at_least(x, t)); });
  return count;
}

// The smallest entry at or above the threshold, and the largest below it.
static inline Boundary around(Row row, float threshold) {
  const Simd::Floats t = Simd::all(threshold), inf = Simd::all(INF), lowest = Simd::all(-INF);
  Simd::Floats upper = inf, lower = lowest;
  scan(row, [&](Simd::Floats x) {
    const Simd::Mask from = Simd::at_least(x, t);
    upper = Simd::min(upper, Simd::select(from, x, inf));
    lower = Simd::max(lower, Simd::select(from, lowest, x));
  });
  return {Simd::smallest(upper), Simd::largest(lower)};
}

// The k-th and (k+1)-th largest by halving the ordered bit patterns of floats: always right.
static Boundary halve(Row row, int64_t k) {
  uint32_t low = float_order(-INF), high = float_order(INF);
  while (low < high) {
    const uint32_t middle = low + (high - low + 1) / 2;
    const float t = float_at(middle);
    if (t == -INF || count_from(row, t) >= k) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const float upper = float_at(low);
  if (upper == -INF) return {-INF, -INF};
  if (count_from(row, upper) > k) return {upper, upper};
  return {upper, around(row, upper).lower};
}

// Interpolates the count of entries at or above a threshold until it is k.
static inline Boundary interpolate(Row row, int64_t k, float smallest, float largest) {
  if (!(smallest < largest) || largest == INF) return halve(row, k);
  float low = smallest, high = largest;
  float above_low = static_cast<float>(row.n), above_high = 1.0f;
  const float wanted = static_cast<float>(k) + 0.5f;
  for (int turn = 0; turn < 12; ++turn) {
    const float share = turn % 4 == 3 ? 0.5f : (above_low - wanted) / (above_low - above_high);
    const float t = low + (high - low) * share;
    if (!(t > low && t < high)) break;
    const int64_t count = count_from(row, t);
    if (count == k) return around(row, t);
    if (count > k) {
      low = t;
      above_low = static_cast<float>(count);
    } else {
      high = t;
      above_high = static_cast<float>(count);
    }
  }
  return halve(row, k);
}

static inline Boundary select_direct(Row row, int64_t k) {
  const Simd::Floats inf = Simd::all(INF), lowest = Simd::all(-INF);
  Simd::Floats low = inf, high = lowest;
  Simd::Mask nan = Simd::is_nan(inf);
  scan(row, [&](Simd::Floats x) {
    nan = Simd::either(nan, Simd::is_nan(x));
    high = Simd::max(high, x);
    low = Simd::min(low, Simd::select(Simd::above(x, lowest), x, inf));
  });
  if (Simd::bits(nan)) return {NAN, NAN};
  return interpolate(row, k, Simd::smallest(low), Simd::largest(high));
}

// Two values between which the k-th and (k+1)-th largest probably lie, from evenly spaced entries.
template <int size>
static inline Boundary bracket(Row row, int64_t k) {
  float sample[size];
  const int64_t stride = row.n / size;
  for (int i = 0; i < size; ++i) {
    const int64_t at = i * stride + stride / 2;
    const bool counts = row.valid == nullptr || row.valid[at];
    sample[i] = counts && row.x[at] == row.x[at] ? row.x[at] : -INF;
  }
  const double share = static_cast<double>(k) / static_cast<double>(row.n);
  const double slack = 3.0 * std::sqrt(size * share * (1.0 - share)) + 1.0;
  const int64_t above = static_cast<int64_t>(size * share - slack);
  const int64_t below = static_cast<int64_t>(size * share + slack) + 1;
  const Row drawn{sample, nullptr, size};
  float high = above < 1 ? INF : select_direct(drawn, above).upper;
  float low = below >= size ? LOWEST : select_direct(drawn, below).lower;
  return {high, low < LOWEST ? LOWEST : low};
}

// What one pass with a bracket finds.
struct Inside {
  int64_t above = 0;
  int64_t kept = 0;
  bool nan = false;
  bool full = false;

  inline bool holds(int64_t k) const { return !full && above < k && k < above + kept; }
};

// Copies the entries of [bracket.lower, bracket.upper] to `kept`.
static inline Inside keep_inside(Row row, Boundary bracket, float* kept, int64_t room) {
  constexpr int64_t BLOCK = 16 * Simd::width;
  const Simd::Floats high = Simd::all(bracket.upper), low = Simd::all(bracket.lower);
  Simd::Mask nan = Simd::is_nan(high);
  int64_t above = 0, count = 0;
  for (int64_t start = 0; start < row.n; start += BLOCK) {
    if (count + BLOCK > room) return {above, count, Simd::bits(nan) != 0, true};
    scan(row.part(start, row.n - start < BLOCK ? row.n - start : BLOCK), [&](Simd::Floats x) {
      const Simd::Mask over = Simd::above(x, high);
      nan = Simd::either(nan, Simd::is_nan(x));
      above += Simd::count(over);
      count += Simd::compress(kept + count, Simd::without(Simd::at_least(x, low), over), x);
    });
  }
  return {above, count, Simd::bits(nan) != 0, false};
}

// Where the last row's boundary was: rows of one batch are often alike, so the next one may be near.
struct Hint {
  float center = 0.0f;
  float reach = 0.0f;
  bool usable = false;

  // How many entries a bracket should hold that is 3 standard deviations of a quantile either way,
  // for two rows drawn alike.
  static inline double wanted(int64_t n, int64_t k) {
    const double share = static_cast<double>(k) / static_cast<double>(n);
    return 8.5 * std::sqrt(static_cast<double>(n) * share * (1.0 - share)) + 16.0;
  }
  inline void learn(Boundary found, Boundary bracket, double shrink) {
    center = 0.5f * found.upper + 0.5f * found.lower;
    reach = 0.5f * (bracket.upper - bracket.lower) * static_cast<float>(shrink);
    usable = std::isfinite(center) && reach > 0.0f && reach < LIMIT;
  }
};

// How many entries a bracket may keep before it counts as a bad guess.
static inline int64_t room_for(int64_t n) { return n / 2 + 16 * Simd::width; }

// What select() needs beside the row: each level keeps at most 7/8 of the one before, and no more
// than its room; it has to stay, in case the next guess is bad.
static inline int64_t scratch_for(int64_t n) {
  int64_t all = room_for(n);
  for (; n > DIRECT; n = std::min(n - n / 8, room_for(n))) all += room_for(n);
  return all;
}

// The k-th and (k+1)-th largest, 0 < k < n; both NaN if an entry is.
static Boundary select(Row row, int64_t k, float* scratch) {
  while (row.n > DIRECT) {
    const Boundary guess = row.n < 8192 ? bracket<64>(row, k) : bracket<256>(row, k);
    const Inside inside = keep_inside(row, guess, scratch, room_for(row.n));
    if (inside.nan) return {NAN, NAN};
    if (!inside.holds(k) || inside.kept > row.n - row.n / 8) break;
    row = {scratch, nullptr, inside.kept};
    k -= inside.above;
    scratch += inside.kept;
  }
  return select_direct(row, k);
}

// The same, beginning where the boundary of another row was.
static Boundary select_near(Row row, int64_t k, float* scratch, Hint& hint) {
  if (row.n <= DIRECT) return select_direct(row, k);
  if (hint.usable) {
    const Boundary guess{hint.center + hint.reach, hint.center - hint.reach};
    const Inside inside = keep_inside(row, guess, scratch, room_for(row.n));
    if (inside.nan) return {NAN, NAN};
    if (inside.holds(k)) {
      const Boundary found = select(Row{scratch, nullptr, inside.kept}, k - inside.above,
                                    scratch + inside.kept);
      const double shrink = Hint::wanted(row.n, k) / static_cast<double>(inside.kept);
      hint.learn(found, guess, shrink < 0.7 ? 0.7 : shrink > 1.5 ? 1.5 : shrink);
      return found;
    }
    hint.usable = false;
    return select(row, k, scratch);
  }
  const Boundary guess = bracket<64>(row, k);
  const Boundary found = select(row, k, scratch);
  hint.learn(found, guess, 0.5);
  return found;
}
