// Four floats at a time in the vector types of GCC and Clang, which they translate to what every
// processor of the target has (SSE2, NEON). See simd_avx512.h for what the names mean.
struct Simd {
  static constexpr int width = 4;
  typedef float Floats __attribute__((vector_size(16)));
  typedef int32_t Mask __attribute__((vector_size(16)));  // all bits of a lane, or none

  static inline Mask words(Floats a) { return reinterpret_cast<Mask>(a); }
  static inline Floats floats(Mask a) { return reinterpret_cast<Floats>(a); }

  static inline Mask first(int lanes) { return Mask{0, 1, 2, 3} < Mask{} + lanes; }
  static inline Floats all(float x) { return Floats{x, x, x, x}; }
  static inline Floats load(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }
  static inline Floats load_first(const float* from, int lanes, float fill) {
    Floats x = all(fill);
    for (int lane = 0; lane < lanes; ++lane) x[lane] = from[lane];
    return x;
  }
  static inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }
  static inline void store_first(float* to, int lanes, Floats x) {
    for (int lane = 0; lane < lanes; ++lane) to[lane] = x[lane];
  }
  static inline Mask flags(const uint8_t* from) {
    return Mask{from[0], from[1], from[2], from[3]} != 0;
  }
  static inline Mask flags_first(const uint8_t* from, int lanes) {
    uint8_t bytes[width] = {};
    for (int lane = 0; lane < lanes; ++lane) bytes[lane] = from[lane];
    return flags(bytes);
  }

  static inline Floats add(Floats a, Floats b) { return a + b; }
  static inline Floats sub(Floats a, Floats b) { return a - b; }
  static inline Floats mul(Floats a, Floats b) { return a * b; }
  static inline Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
  static inline Floats min(Floats a, Floats b) { return select(a < b, a, b); }
  static inline Floats max(Floats a, Floats b) { return select(a > b, a, b); }
  static inline Floats below_zero(Floats a) { return floats(words(a) | words(all(-0.0f))); }
  static inline Floats add_where(Mask where, Floats a, Floats b) {
    return a + floats(where & words(b));
  }
  static inline Floats negate_where(Mask where, Floats a) {
    return floats(words(a) ^ (where & words(all(-0.0f))));
  }
  static inline Floats select(Mask where, Floats a, Floats b) {
    return floats((where & words(a)) | (~where & words(b)));
  }

  static inline Mask above(Floats a, Floats b) { return a > b; }
  static inline Mask at_least(Floats a, Floats b) { return a >= b; }
  static inline Mask equal(Floats a, Floats b) { return a == b; }
  static inline Mask is_nan(Floats a) { return a != a; }
  static inline Mask both(Mask a, Mask b) { return a & b; }
  static inline Mask either(Mask a, Mask b) { return a | b; }
  static inline Mask without(Mask a, Mask b) { return a & ~b; }
  static inline int count(Mask a) { return -(a[0] + a[1] + a[2] + a[3]); }
  static inline uint32_t bits(Mask a) {
    const Mask bit = a & Mask{1, 2, 4, 8};
    return static_cast<uint32_t>(bit[0] | bit[1] | bit[2] | bit[3]);
  }

  static inline int compress(float* to, Mask where, Floats x) {
    int kept = 0;
    for (int lane = 0; lane < width; ++lane) {
      to[kept] = x[lane];
      kept -= where[lane];
    }
    return kept;
  }

  static inline Floats exp2_below(Floats power) {
    const Floats y = max(power, all(-126.0f));
    Mask below = __builtin_convertvector(y, Mask);
    below += __builtin_convertvector(below, Floats) > y;
    const Floats f = y - __builtin_convertvector(below, Floats);
    Floats p = EXP2_5 * f + EXP2_4;
    p = p * f + EXP2_3;
    p = p * f + EXP2_2;
    p = p * f + EXP2_1;
    p = p * f + EXP2_0;
    return floats((words(p) + below * (1 << 23)) & (power >= y));
  }
  static inline Floats reciprocal(Floats a) { return 1.0f / a; }

  static inline float smallest(Floats a) {
    float result = a[0];
    for (int lane = 1; lane < width; ++lane) result = a[lane] < result ? a[lane] : result;
    return result;
  }
  static inline float largest(Floats a) {
    float result = a[0];
    for (int lane = 1; lane < width; ++lane) result = a[lane] > result ? a[lane] : result;
    return result;
  }
  static inline double sum(Floats a) {
    return static_cast<double>(a[0]) + a[1] + (static_cast<double>(a[2]) + a[3]);
  }
};
