// What kernels ask of the processor: its instruction set, large pages, and the constants that the
// vectors of every set share.
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define CASCADE_X86 1
#include <immintrin.h>
#endif

namespace {

constexpr double LOG2E = 1.442695040888963407360;

// 2^f for 0 <= f < 1, relative error below 8e-8 (weighted least squares, reweighted to minimax).
constexpr float EXP2_0 = 0.9999999250670458f;
constexpr float EXP2_1 = 0.6931530731374415f;
constexpr float EXP2_2 = 0.24015361733005428f;
constexpr float EXP2_3 = 0.05582631758807206f;
constexpr float EXP2_4 = 0.008989340340041362f;
constexpr float EXP2_5 = 0.0018775766705135882f;

// For each byte, the places of its bits, in order: simd_avx2.h packs lanes with it.
#ifdef CASCADE_X86
uint8_t COMPRESS_ORDER[256][8];
const bool compress_order_made = [] {
  for (int lanes = 0; lanes < 256; ++lanes)
    for (int lane = 0, kept = 0; lane < 8; ++lane)
      if (lanes >> lane & 1) COMPRESS_ORDER[lanes][kept++] = static_cast<uint8_t>(lane);
  return true;
}();
#endif

enum InstructionSet { PORTABLE = 0, AVX2 = 1, AVX512 = 2 };

InstructionSet best() {
#ifdef CASCADE_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
  return PORTABLE;
}

// Large arrays are fresh memory, and to have them page by page takes longer than to fill them. Memory
// of up to `fewest` large pages is left as it is.
void want_large_pages(const void* memory, int64_t bytes, uintptr_t fewest) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t PAGE = 4096, LARGE = 2 << 20;
  const uintptr_t first = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t start = (first + PAGE - 1) / PAGE * PAGE;
  const uintptr_t end = (first + static_cast<uintptr_t>(bytes)) / PAGE * PAGE;
  if (end > start + fewest * LARGE)
    madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes, (void)fewest;
#endif
}

}  // namespace
