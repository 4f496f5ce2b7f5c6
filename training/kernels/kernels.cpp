// Compiled kernels of training on the CPU, with a C interface.
//
// They stand on the vectors and the threads of the operators' kernels. The instruction set of the
// attention is chosen when it runs; what moves rows of a table waits for memory on any.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

#include "../../operators/kernels/cpu/parallel.h"
#include "../../operators/kernels/cpu/processor.h"

namespace {

constexpr uintptr_t LARGE_FROM = 2;  // large pages of an array that are worth asking for

// Memory that starts with a cache line, and that nothing is written to before it is used.
template <class T>
struct Memory {
  static constexpr std::align_val_t LINE{64};
  T* first;
  explicit Memory(int64_t n)
      : first(static_cast<T*>(::operator new(static_cast<size_t>(n) * sizeof(T), LINE))) {}
  ~Memory() { ::operator delete(first, LINE); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  T* at(int64_t i) const { return first + i; }
};

// Memory for each thread.
struct Workspaces {
  int threads;
  int64_t size;
  int64_t length;
  Memory<float> floats;
  Memory<int64_t> places;

  Workspaces(int count, int64_t floats_each, int64_t places_each)
      : threads(count),
        size((floats_each + 15) / 16 * 16),
        length(places_each),
        floats(count * size),
        places(count * places_each) {}

  // Calls work(item, floats, places) for every item.
  template <class Work>
  void run(int64_t items, const Work& work) {
    std::atomic<int64_t> next{0};
    parallel(std::min<int64_t>(threads, items), threads, [&](int64_t thread) {
      for (int64_t item = next++; item < items; item = next++)
        work(item, floats.at(thread * size), places.at(thread * length));
    });
  }
};

inline void ask_for(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#else
  (void)address;
#endif
}

// Float32 inputs of target attention, contiguous.
struct Attention {
  const float* history;     // [B, L, H]
  const float* candidates;  // [P, H]
  const float* weight;      // [H]
  const float* values;      // [B, L, D]
  const uint8_t* mask;      // [B, L]
  const int64_t* picks;     // [B, N], below P
  int64_t B, N, L, H, D;
};

// Where their gradients go; that of the candidates comes as zeros.
struct Gradients {
  float* history;
  float* candidates;
  float* weight;
  float* values;
};

constexpr int64_t GROUP_FLOATS = 1 << 20;  // what requests of a group may add to the pool

#define CASCADE_KERNELS "../../../training/kernels/kernels.h"
#include "../../operators/kernels/cpu/each_instruction_set.h"

#include "rows.h"
#include "coalesce.h"

// Calls work with the width as a constant where it is a usual one, and with 0 otherwise.
template <class Work>
auto at_width(int64_t width, const Work& work) {
  switch (width) {
    case 4: return work(std::integral_constant<int, 4>());
    case 8: return work(std::integral_constant<int, 8>());
    case 16: return work(std::integral_constant<int, 16>());
    case 32: return work(std::integral_constant<int, 32>());
    default: return work(std::integral_constant<int, 0>());
  }
}

}  // namespace

#define CASCADE_API extern "C" __attribute__((visibility("default")))

// What the caller was written for has to be what was compiled.
CASCADE_API int cascade_training_version() { return 1; }

// The best instruction set of this processor: 0 portable, 1 AVX2, 2 AVX-512. The attention takes one
// that is no better.
CASCADE_API int cascade_training_instruction_set() { return best(); }

// Asks for large pages where nothing was written yet.
CASCADE_API void cascade_large_pages(const void* memory, int64_t bytes) {
  want_large_pages(memory, bytes, LARGE_FROM);
}

// out [B, N, D], and the weights of each candidate's valid positions side by side, [B, N, L], if
// that is not null. Returns 1 if there was no memory for it.
CASCADE_API int cascade_attention(const float* history, const float* candidates, const float* weight,
                                  const float* values, const uint8_t* mask, const int64_t* picks,
                                  int64_t B, int64_t N, int64_t L, int64_t H, int64_t D,
                                  float* weights, float* out, int set, int threads) try {
  const Attention a{history, candidates, weight, values, mask, picks, B, N, L, H, D};
  if (weights) want_large_pages(weights, B * N * L * 4, LARGE_FROM);
  want_large_pages(out, B * N * D * 4, LARGE_FROM);
#ifdef CASCADE_X86
  if (set == AVX512) return avx512::attention(a, weights, out, threads), 0;
  if (set == AVX2) return avx2::attention(a, weights, out, threads), 0;
#endif
  return portable::attention(a, weights, out, threads), 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// Gradients, from those weights and the gradient of out; `candidates_grad` comes as zeros.
CASCADE_API int cascade_attention_backward(
    const float* history, const float* candidates, const float* weight, const float* values,
    const uint8_t* mask, const int64_t* picks, int64_t B, int64_t N, int64_t L, int64_t H, int64_t D,
    const float* weights, const float* grad, float* history_grad, float* candidates_grad,
    float* weight_grad, float* values_grad, int set, int threads) try {
  const Attention a{history, candidates, weight, values, mask, picks, B, N, L, H, D};
  const Gradients to{history_grad, candidates_grad, weight_grad, values_grad};
  want_large_pages(history_grad, B * L * H * 4, LARGE_FROM);
  want_large_pages(values_grad, B * L * D * 4, LARGE_FROM);
#ifdef CASCADE_X86
  if (set == AVX512) return avx512::attention_backward(a, weights, grad, to, threads), 0;
  if (set == AVX2) return avx2::attention_backward(a, weights, grad, to, threads), 0;
#endif
  return portable::attention_backward(a, weights, grad, to, threads), 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// out [X, F, D] = the rows of the table, 0 for the unknown row of a field and for those beyond it.
CASCADE_API void cascade_gather(const float* weight, const int32_t* rows, const int64_t* offsets,
                                const int64_t* sizes, int64_t places, int64_t columns, int64_t width,
                                float* out, int threads) {
  const Gather g{weight, rows, offsets, sizes, places, columns, width, out};
  want_large_pages(out, places * columns * width * 4, LARGE_FROM);
  at_width(width, [&](auto constant) {
    in_chunks(places, threads, [&](int64_t first, int64_t last) {
      gather_chunk<decltype(constant)::value>(g, first, last);
    });
  });
}

// Sums gradients by row of the table. The sources are columns of row numbers, in the order in which
// their gradients are added. Returns how many rows there are, -1 if there was no memory for it.
CASCADE_API int64_t cascade_coalesce(const int32_t* const* rows, const int64_t* row_steps,
                                     const float* const* grads, const int64_t* grad_steps,
                                     const int64_t* counts, const int64_t* source_fields,
                                     int64_t sources, const int64_t* offsets, const int64_t* sizes,
                                     int64_t fields, int64_t width, int64_t* out_rows,
                                     float* out_grads, int threads) try {
  std::vector<std::vector<Source>> of_fields(static_cast<size_t>(fields));
  for (int64_t s = 0; s < sources; ++s) {
    auto& field = of_fields[static_cast<size_t>(source_fields[s])];
    const int64_t first = field.empty() ? 0 : field.back().first + field.back().count;
    field.push_back({rows[s], row_steps[s], grads[s], grad_steps[s], counts[s], first});
  }
  return at_width(width, [&](auto constant) {
    return coalesce<decltype(constant)::value>(of_fields, offsets, sizes, width, out_rows, out_grads,
                                               threads);
  });
} catch (const std::bad_alloc&) {
  return -1;
}

// Moves distinct rows of the table against their gradients; see rows.h for moment and counts.
CASCADE_API void cascade_update(float* weight, float* moment, int16_t* counts, const float* rates,
                                const int64_t* rows, const float* grads, int64_t touched,
                                int64_t width, float lr, float eps, int threads) {
  const Update u{weight, moment, counts, rates, rows, grads, touched, width, lr, eps};
  at_width(width, [&](auto constant) {
    in_chunks(touched, threads, [&](int64_t first, int64_t last) {
      update_chunk<decltype(constant)::value>(u, first, last);
    });
  });
}
