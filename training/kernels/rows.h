// Rows of an embedding table: gathered, and moved against their gradients.
//
// Legend: X places in a batch, F columns of row numbers, D width, U touched rows.

constexpr int64_t AHEAD = 12;    // places that are asked of the memory before they are needed
constexpr int64_t CHUNK = 1024;  // places a thread takes at a time

// A row number's place among those of its field, or 0 if it is the unknown one or beyond the last.
inline int64_t known(int32_t row, int64_t size) { return row > 0 && row < size ? row : 0; }

struct Gather {
  const float* weight;
  const int32_t* rows;     // [X, F]
  const int64_t* offsets;  // [F] of the columns' fields in the table
  const int64_t* sizes;    // [F]
  int64_t places;
  int64_t columns;
  int64_t width;
  float* out;  // [X, F, D]
};

template <int WIDTH>
void gather_chunk(const Gather& g, int64_t first, int64_t last) {
  const int64_t width = WIDTH ? WIDTH : g.width;
  for (int64_t x = first; x < last; ++x) {
    const int32_t* rows = g.rows + x * g.columns;
    if (x + AHEAD < g.places)
      for (int64_t f = 0; f < g.columns; ++f)
        ask_for(g.weight + (g.offsets[f] + known(rows[AHEAD * g.columns + f], g.sizes[f])) * width);
    for (int64_t f = 0; f < g.columns; ++f) {
      float* to = g.out + (x * g.columns + f) * width;
      if (const int64_t row = known(rows[f], g.sizes[f]))
        std::copy_n(g.weight + (g.offsets[f] + row) * width, width, to);
      else
        std::fill_n(to, width, 0.0f);
    }
  }
}

struct Update {
  float* weight;
  float* moment;       // [R], one a row
  int16_t* counts;     // [R], null: no decay
  const float* rates;  // [32768], how much a row's n-th gradient counts in its moment
  const int64_t* rows;  // [U]
  const float* grads;   // [U, D]
  int64_t touched;
  int64_t width;
  float lr;
  float eps;
};

template <int WIDTH>
void update_chunk(const Update& u, int64_t first, int64_t last) {
  const int64_t width = WIDTH ? WIDTH : u.width;
  for (int64_t i = first; i < last; ++i) {
    if (i + AHEAD < u.touched) {
      const int64_t later = u.rows[i + AHEAD];
      ask_for(u.weight + later * width);
      ask_for(u.moment + later);
      if (u.counts) ask_for(u.counts + later);
    }
    const float* __restrict grad = u.grads + i * width;
    float* __restrict weight = u.weight + u.rows[i] * width;
    float& moment = u.moment[u.rows[i]];
    float square = 0.0f;
    for (int64_t d = 0; d < width; ++d) square += grad[d] * grad[d];
    square /= static_cast<float>(width);
    if (u.counts) {
      int16_t& count = u.counts[u.rows[i]];
      if (count < INT16_MAX) ++count;
      moment += u.rates[count] * (square - moment);
    } else {
      moment += square;
    }
    const float step = u.lr / (std::sqrt(moment) + u.eps);
    for (int64_t d = 0; d < width; ++d) weight[d] -= step * grad[d];
  }
}

template <class Chunk>
void in_chunks(int64_t count, int threads, const Chunk& chunk) {
  parallel((count + CHUNK - 1) / CHUNK, threads, [&](int64_t item) {
    chunk(item * CHUNK, std::min(count, (item + 1) * CHUNK));
  });
}
