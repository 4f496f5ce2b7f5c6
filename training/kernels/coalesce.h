// The gradients of a batch, summed by the row of the table that they belong to.
//
// Time and memory go with what the batch touched, never with the size of the table. A field of few
// rows is summed into an array of them; the entries of a large one are sorted by their row. A row's
// gradients are always added in the order of the batch, so threads change no bit.

constexpr int64_t NEAR = 16;      // gradients that are asked of the memory before they are needed
constexpr int64_t SPLIT = 16384;  // entries that are worth a second thread

// One column of row numbers of one batch, and the gradients of what was gathered for it.
struct Source {
  const int32_t* rows;
  int64_t row_step;
  const float* grads;
  int64_t grad_step;
  int64_t count;
  int64_t first;  // number of its first entry among those of its field
};

// A field's rows in [low, high): a part of the work.
struct Part {
  const std::vector<Source>* sources;
  int64_t offset;
  int64_t low;
  int64_t high;
  bool few;
  int64_t entries = 0;  // at most, and exactly once they are collected
  int64_t distinct = 0;
  int64_t out = 0;               // place of the first row in what is returned
  uint64_t* keys = nullptr;      // row and entry, sorted
  uint64_t* spare = nullptr;
  float* sums = nullptr;         // of few rows: [high - low, D]
  uint8_t* touched = nullptr;    // of few rows: [high - low]

  template <class Visit>
  void each(const Visit& visit) const {
    const int64_t from = low, to = high;
    for (const Source source : *sources)
      for (int64_t i = 0; i < source.count; ++i) {
        const int64_t row = source.rows[i * source.row_step];
        if (row >= from && row < to) visit(source, i, row);
      }
  }

  inline const float* grad(uint32_t entry) const {
    const Source* source = sources->data();
    // No branch: entries of several sources alternate.
    for (size_t s = 1; s < sources->size(); ++s) source += (*sources)[s].first <= entry;
    return source->grads + (entry - source->first) * source->grad_step;
  }
};

// Sorts by the upper half, entries of a row staying in order; returns where the result is.
inline uint64_t* sort_keys(uint64_t* keys, uint64_t* spare, int64_t n, int64_t rows) {
  constexpr int MOST = 11;
  int bits = 1;
  while (bits < 32 && (rows - 1) >> bits) ++bits;
  const int passes = (bits + MOST - 1) / MOST, step = (bits + passes - 1) / passes;
  for (int shift = 32; shift < 32 + bits; shift += step) {
    int64_t starts[(1 << MOST) + 1] = {};
    const uint64_t digit = (uint64_t{1} << step) - 1;
    for (int64_t i = 0; i < n; ++i) ++starts[(keys[i] >> shift & digit) + 1];
    for (size_t value = 1; value <= digit; ++value) starts[value] += starts[value - 1];
    for (int64_t i = 0; i < n; ++i) spare[starts[keys[i] >> shift & digit]++] = keys[i];
    std::swap(keys, spare);
  }
  return keys;
}

template <int WIDTH>
inline void add_row(float* __restrict sum, const float* __restrict grad, int64_t width) {
  for (int64_t d = 0; d < (WIDTH ? WIDTH : width); ++d) sum[d] += grad[d];
}

// Orders or sums the entries of a part, and counts its rows.
template <int WIDTH>
void collect(Part& part, int64_t width) {
  const int64_t low = part.low, count = part.high - low;
  if (part.few) {
    float* const sums = part.sums;
    uint8_t* const touched = part.touched;
    part.each([=](const Source& source, int64_t i, int64_t row) {
      const float* grad = source.grads + i * source.grad_step;
      ask_for(grad + NEAR * source.grad_step);
      touched[row - low] = 1;
      add_row<WIDTH>(sums + (row - low) * width, grad, width);
    });
    part.distinct = std::count(touched, touched + count, uint8_t{1});
    return;
  }
  int64_t n = 0;
  uint64_t* const keys = part.keys;
  part.each([=, &n](const Source& source, int64_t i, int64_t row) {
    keys[n++] = static_cast<uint64_t>(row - low) << 32 | static_cast<uint64_t>(source.first + i);
  });
  part.entries = n;
  part.keys = sort_keys(part.keys, part.spare, n, count);
  for (int64_t i = 0; i < n; ++i)
    part.distinct += i == 0 || part.keys[i] >> 32 != part.keys[i - 1] >> 32;
}

// Writes the rows of a part and their gradients.
template <int WIDTH>
void write(const Part& part, int64_t width, int64_t* rows, float* grads) {
  int64_t to = part.out;
  if (part.few) {
    for (int64_t row = 0; row < part.high - part.low; ++row) {
      if (!part.touched[row]) continue;
      rows[to] = part.offset + part.low + row;
      std::copy_n(part.sums + row * width, WIDTH ? WIDTH : width, grads + to++ * width);
    }
    return;
  }
  for (int64_t i = 0; i < part.entries; ++to) {
    const uint64_t row = part.keys[i] >> 32;
    rows[to] = part.offset + part.low + static_cast<int64_t>(row);
    float* sum = grads + to * width;
    std::fill_n(sum, WIDTH ? WIDTH : width, 0.0f);
    for (; i < part.entries && part.keys[i] >> 32 == row; ++i) {
      if (i + NEAR < part.entries) ask_for(part.grad(static_cast<uint32_t>(part.keys[i + NEAR])));
      add_row<WIDTH>(sum, part.grad(static_cast<uint32_t>(part.keys[i])), width);
    }
  }
}

// Rows that cut a field into parts of about as many entries each, from a sample.
inline std::vector<int64_t> cuts(const std::vector<Source>& sources, int64_t size, int64_t entries,
                                 int parts) {
  constexpr int64_t SAMPLE = 1024;
  if (parts == 1) return {1, size};
  std::vector<int64_t> sample, result{1};
  const int64_t step = std::max<int64_t>(1, entries / SAMPLE);
  for (const Source& source : sources)
    for (int64_t i = 0; i < source.count; i += step)
      if (const int64_t row = known(source.rows[i * source.row_step], size)) sample.push_back(row);
  std::sort(sample.begin(), sample.end());
  for (size_t part = 1; part < static_cast<size_t>(parts) && !sample.empty(); ++part)
    if (const int64_t row = sample[sample.size() * part / static_cast<size_t>(parts)];
        row > result.back())
      result.push_back(row);
  result.push_back(size);
  return result;
}

// Sums the gradients of all fields; `rows` and `grads` have room for every distinct row. Returns how
// many there are. They ascend.
template <int WIDTH>
int64_t coalesce(const std::vector<std::vector<Source>>& fields, const int64_t* offsets,
                 const int64_t* sizes, int64_t width, int64_t* rows, float* grads, int threads) {
  std::vector<Part> parts;
  for (size_t f = 0; f < fields.size(); ++f) {
    int64_t entries = 0;
    for (const Source& source : fields[f]) entries += source.count;
    const auto bounds = cuts(fields[f], sizes[f], entries, entries < SPLIT ? 1 : threads);
    for (size_t i = 0; i + 1 < bounds.size(); ++i) {
      parts.push_back({&fields[f], offsets[f], bounds[i], bounds[i + 1], sizes[f] <= entries / 2});
      if (bounds.size() == 2) parts.back().entries = entries;
    }
  }
  const auto count = static_cast<int64_t>(parts.size());
  const auto at = [&](int64_t i) -> Part& { return parts[static_cast<size_t>(i)]; };
  parallel(count, threads, [&](int64_t i) {
    Part& part = at(i);
    if (!part.few && !part.entries) part.each([&](const Source&, int64_t, int64_t) { ++part.entries; });
  });
  int64_t sorted = 0, few = 0;
  for (const Part& part : parts)
    if (part.few)
      few += part.high - part.low;
    else
      sorted += part.entries;
  const Memory<uint64_t> keys(sorted), spare(sorted);
  std::vector<float> sums(static_cast<size_t>(few * width));
  std::vector<uint8_t> touched(static_cast<size_t>(few));
  sorted = few = 0;
  for (Part& part : parts) {
    if (part.few) {
      part.sums = sums.data() + few * width, part.touched = touched.data() + few;
      few += part.high - part.low;
    } else {
      part.keys = keys.at(sorted), part.spare = spare.at(sorted);
      sorted += part.entries;
    }
  }
  parallel(count, threads, [&](int64_t i) { collect<WIDTH>(at(i), width); });
  int64_t total = 0;
  for (Part& part : parts) part.out = total, total += part.distinct;
  parallel(count, threads, [&](int64_t i) { write<WIDTH>(at(i), width, rows, grads); });
  return total;
}
