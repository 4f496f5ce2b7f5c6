// Compiles the header that CASCADE_KERNELS names once for each instruction set, in a namespace of
// its name, on top of the set's vectors.
namespace portable {
#include "simd_portable.h"
#include CASCADE_KERNELS
}  // namespace portable

#ifdef CASCADE_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,popcnt")
#endif
namespace avx2 {
#include "simd_avx2.h"
#include CASCADE_KERNELS
}  // namespace avx2
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,bmi,popcnt,avx512f,avx512dq,avx512bw,avx512vl"))), \
    apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,popcnt,avx512f,avx512dq,avx512bw,avx512vl")
#endif
namespace avx512 {
#include "simd_avx512.h"
#include CASCADE_KERNELS
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
