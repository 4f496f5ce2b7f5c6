// What the library offers for a batch of rows, compiled once for each instruction set.

// Rows that are short enough are one piece of work; a longer one is split into chunks. What is
// summed in which order depends on the shape alone, so results do not depend on the threads.
constexpr int64_t LONG = 1 << 17;
constexpr int64_t ENTRIES_PER_PIECE = 1 << 16;

static inline Row row_of(const Scores& scores, int64_t b) {
  const int64_t start = b * scores.n;
  return {scores.x + start, scores.valid ? scores.valid + start : nullptr, scores.n};
}

static inline int64_t chunks_of(int64_t n) { return (n + CHUNK - 1) / CHUNK; }

static inline int64_t chunk_length(int64_t n, int64_t chunk) {
  return n - chunk * CHUNK < CHUNK ? n - chunk * CHUNK : CHUNK;
}

// select() for a long row: the first pass over it is made chunk by chunk.
static Boundary select_long(Row row, int64_t k, int threads) {
  const int64_t chunks = chunks_of(row.n), room = CHUNK / 4;
  std::unique_ptr<float[]> kept(new float[static_cast<size_t>(chunks * room)]);
  std::vector<Inside> found(static_cast<size_t>(chunks));
  const Boundary guess = bracket<1024>(row, k);
  parallel(chunks, threads, [&](int64_t chunk) {
    found[static_cast<size_t>(chunk)] = keep_inside(
        row.part(chunk * CHUNK, chunk_length(row.n, chunk)), guess, kept.get() + chunk * room, room);
  });
  Inside all;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const Inside& here = found[static_cast<size_t>(chunk)];
    all.nan = all.nan || here.nan;
    all.full = all.full || here.full;
    all.above += here.above;
    std::memmove(kept.get() + all.kept, kept.get() + chunk * room,
                 static_cast<size_t>(here.kept) * sizeof(float));
    all.kept += here.kept;
  }
  if (all.nan) return {NAN, NAN};
  if (!all.holds(k)) return select_direct(row, k);
  const Row rest{kept.get(), nullptr, all.kept};
  std::unique_ptr<float[]> scratch(new float[static_cast<size_t>(scratch_for(rest.n))]);
  return select(rest, k - all.above, scratch.get());
}

static void boundaries(const Scores& scores, float* upper, float* lower, int threads) {
  const auto put = [&](int64_t b, Boundary boundary) {
    upper[b] = boundary.upper;
    lower[b] = boundary.lower;
  };
  if (scores.n >= LONG) {
    for (int64_t b = 0; b < scores.rows; ++b)
      put(b, select_long(row_of(scores, b), scores.k_of(b), threads));
    return;
  }
  const int64_t piece = ENTRIES_PER_PIECE / scores.n + 1;
  parallel((scores.rows + piece - 1) / piece, threads, [&](int64_t at) {
    std::unique_ptr<float[]> scratch(new float[static_cast<size_t>(scratch_for(scores.n))]);
    Hint hint;
    for (int64_t b = at * piece; b < (at + 1) * piece && b < scores.rows; ++b)
      put(b, select_near(row_of(scores, b), scores.k_of(b), scratch.get(), hint));
  });
}

static inline float midpoint(Boundary boundary) {
  const auto within = [](float x) { return x > LIMIT ? LIMIT : x < -LIMIT ? -LIMIT : x; };
  return 0.5f * within(boundary.upper) + 0.5f * within(boundary.lower);
}

// Takes half of the summed slopes from the entries tied with each boundary.
static void share_threshold(Row row, const Pass& pass, double slopes, const Ties& ties, float* grad) {
  const auto [upper, lower] = pass.boundary;
  const double half = -0.5 * slopes;
  const float of_upper =
      std::isinf(upper) ? 0.0f : static_cast<float>(half / static_cast<double>(ties.uppers));
  const float of_lower =
      std::isinf(lower) ? 0.0f : static_cast<float>(half / static_cast<double>(ties.lowers));
  const auto give = [&](int64_t i) {
    if (row.valid && !row.valid[i]) return;
    if (row.x[i] == upper) grad[i] += of_upper;
    if (row.x[i] == lower) grad[i] += of_lower;
  };
  if (ties.known <= Ties::room) {
    for (int64_t tie = 0; tie < ties.known; ++tie) give(ties.at[tie]);
  } else {
    for (int64_t i = 0; i < row.n; ++i) give(i);
  }
}

template <bool with_grad>
static double lose(Row row, const uint8_t* labels, const Pass& pass, float* grad, int64_t offset,
                   Tally& tally, Ties& ties) {
  if (row.valid) return Loser<with_grad, true>{row, labels, grad, pass, offset, ties}(tally);
  return Loser<with_grad, false>{row, labels, grad, pass, offset, ties}(tally);
}

// A sum of losses, and whether an entry was infinitely far from its threshold.
struct Found {
  double loss = 0.0;
  bool infinite = false;

  inline void add(Found other, double weight) {
    loss += weight * other.loss;
    infinite = infinite || other.infinite;
  }
};

// The losses of one long row, chunk by chunk.
template <bool with_grad>
static Found lose_long(Row row, const uint8_t* labels, const Pass& pass, float* grad, int threads) {
  const size_t chunks = static_cast<size_t>(chunks_of(row.n));
  std::vector<Found> found(chunks);
  std::vector<double> slopes(chunks);
  std::vector<Ties> ties(chunks);
  parallel(static_cast<int64_t>(chunks), threads, [&](int64_t chunk) {
    const int64_t start = chunk * CHUNK;
    const size_t at = static_cast<size_t>(chunk);
    Tally tally = Tally::empty();
    slopes[at] = lose<with_grad>(row.part(start, chunk_length(row.n, chunk)), labels + start, pass,
                                 with_grad ? grad + start : nullptr, start, tally, ties[at]);
    tally.settle();
    found[at] = {tally.loss, tally.infinite()};
  });
  Found whole;
  double slope = 0.0;
  Ties all;
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    whole.add(found[chunk], 1.0);
    slope += slopes[chunk];
    all.uppers += ties[chunk].uppers;
    all.lowers += ties[chunk].lowers;
    for (int64_t tie = 0; tie < ties[chunk].known; ++tie, ++all.known)
      if (tie < Ties::room && all.known < Ties::room) all.at[all.known] = ties[chunk].at[tie];
  }
  if (with_grad) share_threshold(row, pass, slope, all, grad);
  return whole;
}

// One row after its boundary is known.
struct Rows {
  const Scores& scores;
  const Loss& loss;

  inline Pass pass(Boundary boundary, int64_t b) const {
    const float scale = static_cast<float>(weight(b) / loss.total / loss.tau);
    return {boundary, midpoint(boundary), static_cast<float>(LOG2E / loss.tau), scale};
  }
  inline double weight(int64_t b) const { return loss.weights ? loss.weights[b] : 1.0; }
  inline float* grad(int64_t b) const { return loss.grad ? loss.grad + b * scores.n : nullptr; }
  inline void fill(int64_t b, float value) const {
    if (loss.grad) std::fill_n(grad(b), scores.n, value);
  }
  inline const uint8_t* labels(int64_t b) const { return loss.labels + b * scores.n; }
};

template <bool with_grad>
static Found lose_rows(const Rows& rows, int64_t from, int64_t to, float* scratch) {
  const Scores& scores = rows.scores;
  Tally tally = Tally::empty();
  Hint hint;
  Found found;
  for (int64_t b = from; b < to; ++b) {
    if (scores.decided(b)) {
      rows.fill(b, 0.0f);
      continue;
    }
    const Row row = row_of(scores, b);
    const Boundary boundary = select_near(row, scores.k_of(b), scratch, hint);
    if (std::isnan(boundary.upper)) {
      rows.fill(b, NAN);
      found.loss = NAN;
      continue;
    }
    const Pass pass = rows.pass(boundary, b);
    Ties ties;
    const double slopes =
        lose<with_grad>(row, rows.labels(b), pass, rows.grad(b), 0, tally, ties);
    if (with_grad) share_threshold(row, pass, slopes, ties, rows.grad(b));
    if (rows.loss.weights) {
      tally.settle();
      found.add({tally.loss, false}, rows.weight(b));
      tally.loss = 0.0;
    }
  }
  tally.settle();
  found.add({tally.loss, tally.infinite()}, 1.0);
  return found;
}

template <bool with_grad>
static Found cross_entropy_long(const Rows& rows, int threads) {
  const Scores& scores = rows.scores;
  Found sum;
  for (int64_t b = 0; b < scores.rows; ++b) {
    if (scores.decided(b)) {
      rows.fill(b, 0.0f);
      continue;
    }
    const Row row = row_of(scores, b);
    const Boundary boundary = select_long(row, scores.k_of(b), threads);
    if (std::isnan(boundary.upper)) {
      rows.fill(b, NAN);
      sum.loss = NAN;
      continue;
    }
    sum.add(lose_long<with_grad>(row, rows.labels(b), rows.pass(boundary, b), rows.grad(b), threads),
            rows.weight(b));
  }
  return sum;
}

template <bool with_grad>
static Found cross_entropy_of(const Rows& rows, int threads) {
  const Scores& scores = rows.scores;
  if (scores.n >= LONG) return cross_entropy_long<with_grad>(rows, threads);
  const int64_t piece = ENTRIES_PER_PIECE / scores.n + 1;
  const int64_t pieces = (scores.rows + piece - 1) / piece;
  std::vector<Found> sums(static_cast<size_t>(pieces));
  parallel(pieces, threads, [&](int64_t at) {
    std::unique_ptr<float[]> scratch(new float[static_cast<size_t>(scratch_for(scores.n))]);
    const int64_t from = at * piece;
    const int64_t to = from + piece < scores.rows ? from + piece : scores.rows;
    sums[static_cast<size_t>(at)] = lose_rows<with_grad>(rows, from, to, scratch.get());
  });
  Found sum;
  for (const Found& part : sums) sum.add(part, 1.0);
  return sum;
}

// Puts the weighted losses over their total weight into `mean`, and the gradient where one is wanted.
// Returns whether an entry was infinitely far from its threshold: then neither is right.
static bool cross_entropy(const Scores& scores, const Loss& loss, float* mean, int threads) {
  const Rows rows{scores, loss};
  const Found sum =
      loss.grad ? cross_entropy_of<true>(rows, threads) : cross_entropy_of<false>(rows, threads);
  *mean = static_cast<float>(loss.total > 0.0 ? sum.loss / loss.total : sum.loss);
  return sum.infinite;
}
