// Eight floats at a time: AVX2 and FMA. See simd_avx512.h for what the names mean.
struct Simd {
  static constexpr int width = 8;
  using Floats = __m256;
  using Mask = __m256;  // all bits of a lane, or none

  static inline Floats all(float x) { return _mm256_set1_ps(x); }
  static inline __m256i whole(int x) { return _mm256_set1_epi32(x); }
  static inline __m256i lane_numbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  static inline Mask first(int lanes) {
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(whole(lanes), lane_numbers()));
  }
  static inline Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static inline Floats load_first(const float* from, int lanes, float fill) {
    Mask valid = first(lanes);
    return select(valid, _mm256_maskload_ps(from, _mm256_castps_si256(valid)), all(fill));
  }
  static inline void store(float* to, Floats x) { _mm256_storeu_ps(to, x); }
  static inline void store_first(float* to, int lanes, Floats x) {
    _mm256_maskstore_ps(to, _mm256_castps_si256(first(lanes)), x);
  }
  static inline Mask flags(const uint8_t* from) {
    __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(bytes, whole(0)));
  }
  static inline Mask flags_first(const uint8_t* from, int lanes) {
    uint8_t bytes[width] = {};
    for (int lane = 0; lane < lanes; ++lane) bytes[lane] = from[lane];
    return flags(bytes);
  }

  static inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static inline Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
  static inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  static inline Floats below_zero(Floats a) { return _mm256_or_ps(a, all(-0.0f)); }
  static inline Floats add_where(Mask where, Floats a, Floats b) {
    return add(a, _mm256_and_ps(where, b));
  }
  static inline Floats negate_where(Mask where, Floats a) {
    return _mm256_xor_ps(a, _mm256_and_ps(where, all(-0.0f)));
  }
  static inline Floats select(Mask where, Floats a, Floats b) {
    return _mm256_blendv_ps(b, a, where);
  }

  static inline Mask above(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
  static inline Mask at_least(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static inline Mask equal(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
  static inline Mask is_nan(Floats a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
  static inline Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
  static inline Mask either(Mask a, Mask b) { return _mm256_or_ps(a, b); }
  static inline Mask without(Mask a, Mask b) { return _mm256_andnot_ps(b, a); }
  static inline int count(Mask a) { return __builtin_popcount(bits(a)); }
  static inline uint32_t bits(Mask a) { return static_cast<uint32_t>(_mm256_movemask_ps(a)); }

  static inline int compress(float* to, Mask where, Floats x) {
    uint32_t lanes = bits(where);
    __m128i order = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(COMPRESS_ORDER[lanes]));
    store(to, _mm256_permutevar8x32_ps(x, _mm256_cvtepu8_epi32(order)));
    return __builtin_popcount(lanes);
  }

  // 2^y for y <= 0, and 0 for y < -126; relative error below 2e-7.
  static inline Floats exp2_below(Floats power) {
    const Floats y = max(power, all(-126.0f));
    Floats whole_part = _mm256_floor_ps(y);
    Floats f = sub(y, whole_part);
    Floats p = fma(all(EXP2_5), f, all(EXP2_4));
    p = fma(p, f, all(EXP2_3));
    p = fma(p, f, all(EXP2_2));
    p = fma(p, f, all(EXP2_1));
    p = fma(p, f, all(EXP2_0));
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole_part), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
    return _mm256_and_ps(p, at_least(power, y));
  }
  static inline Floats reciprocal(Floats a) { return _mm256_div_ps(all(1.0f), a); }

  static inline float smallest(Floats a) {
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
  }
  static inline float largest(Floats a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  }
  static inline double sum(Floats a) {
    __m256d d = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                              _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(d), _mm256_extractf128_pd(d, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
};
