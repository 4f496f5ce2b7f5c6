// Sixteen floats at a time: AVX-512 F, DQ, BW and VL.
//
// The three simd_*.h define the same names; rows.h is compiled once on top of each. A function that
// works on the last, shorter vector of a row ends in _first and takes the number of lanes that count.
struct Simd {
  static constexpr int width = 16;
  using Floats = __m512;
  using Mask = __mmask16;

  static inline Mask first(int lanes) { return static_cast<Mask>((1u << lanes) - 1u); }
  static inline Floats all(float x) { return _mm512_set1_ps(x); }
  static inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static inline Floats load_first(const float* from, int lanes, float fill) {
    return _mm512_mask_loadu_ps(all(fill), first(lanes), from);
  }
  static inline void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }
  static inline void store_first(float* to, int lanes, Floats x) {
    _mm512_mask_storeu_ps(to, first(lanes), x);
  }
  static inline Mask flags(const uint8_t* from) {
    __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm_test_epi8_mask(bytes, bytes);
  }
  static inline Mask flags_first(const uint8_t* from, int lanes) {
    __m128i bytes = _mm_maskz_loadu_epi8(first(lanes), from);
    return _mm_test_epi8_mask(bytes, bytes);
  }

  static inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static inline Floats below_zero(Floats a) { return _mm512_or_ps(a, all(-0.0f)); }  // -|a|
  static inline Floats add_where(Mask where, Floats a, Floats b) {
    return _mm512_mask_add_ps(a, where, a, b);
  }
  static inline Floats negate_where(Mask where, Floats a) {
    return _mm512_mask_xor_ps(a, where, a, all(-0.0f));
  }
  static inline Floats select(Mask where, Floats a, Floats b) {
    return _mm512_mask_blend_ps(where, b, a);
  }

  static inline Mask above(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static inline Mask at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static inline Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  static inline Mask is_nan(Floats a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
  static inline Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
  static inline Mask either(Mask a, Mask b) { return static_cast<Mask>(a | b); }
  static inline Mask without(Mask a, Mask b) { return static_cast<Mask>(a & ~b); }
  static inline int count(Mask a) { return __builtin_popcount(a); }
  static inline uint32_t bits(Mask a) { return a; }

  // Writes the lanes of `where` side by side; may overwrite `width` floats. Compressing in a register
  // first: a compressing store is microcoded on Zen 4.
  static inline int compress(float* to, Mask where, Floats x) {
    store(to, _mm512_maskz_compress_ps(where, x));
    return count(where);
  }

  // 2^y for y <= 0, and 0 for y = -inf; relative error below 2e-7.
  static inline Floats exp2_below(Floats y) {
    Floats f = _mm512_reduce_ps(y, 0x09);  // y - floor(y)
    Floats p = fma(all(EXP2_5), f, all(EXP2_4));
    p = fma(p, f, all(EXP2_3));
    p = fma(p, f, all(EXP2_2));
    p = fma(p, f, all(EXP2_1));
    p = fma(p, f, all(EXP2_0));
    return _mm512_scalef_ps(p, y);
  }
  // 1 / a for 1 <= a <= 2; relative error below 2e-7.
  static inline Floats reciprocal(Floats a) {
    Floats r = _mm512_rcp14_ps(a);
    return fma(r, _mm512_fnmadd_ps(a, r, all(1.0f)), r);
  }

  static inline float smallest(Floats a) { return _mm512_reduce_min_ps(a); }
  static inline float largest(Floats a) { return _mm512_reduce_max_ps(a); }
  static inline double sum(Floats a) {
    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
    __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
    return _mm512_reduce_add_pd(_mm512_add_pd(low, high));
  }
};
