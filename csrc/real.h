/* real.h: the words that kernels are written in: a real, a vector V of VL of them, and functions of
   vectors.  One instance = one dtype on one instruction set with one direction of the lanes; the
   instance file sets REAL_BITS (32 or 64), VBYTES (bytes of a vector), TILE (accumulators of the
   micro-kernel), SUFFIX and, for lanes along the rows, BY_ROWS. */
#include <math.h>
#include <string.h>
#if VBYTES == 64
#include <immintrin.h>
#define X86(op, type) _mm512_##op##_##type
#elif VBYTES == 32
#include <immintrin.h>
#define X86(op, type) _mm256_##op##_##type
#elif defined(__SSE2__)
#include <emmintrin.h>
#define X86(op, type) _mm_##op##_##type
#endif

/* Names: NAME(collect) is collect_f32_avx2; loops that are unrolled whatever the level of
   optimisation. */
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define NAME(f) CAT(CAT(f, _), SUFFIX)
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noclone)) /* one copy, whatever it is called with */
#endif
#ifdef __clang__ /* with gcc's words it leaves arrays of vectors in memory */
#define UNROLL_FOR _Pragma("clang loop unroll(full)") for
#define UNROLL_4_FOR _Pragma("clang loop unroll_count(4)") for
#else
#define UNROLL_FOR _Pragma("GCC unroll 16") for
#define UNROLL_4_FOR _Pragma("GCC unroll 4") for
#endif

/* Types.  ireal, VI: integers of the same width, for masks.  U: as many integers of 32 bits. */
#if REAL_BITS == 64
typedef double real;
typedef int64_t ireal;
typedef uint64_t uireal;
#define PACKED pd
#else
typedef float real;
typedef int32_t ireal;
typedef uint32_t uireal;
#define PACKED ps
#endif
typedef real V __attribute__((vector_size(VBYTES)));
typedef ireal VI __attribute__((vector_size(VBYTES)));
typedef uint32_t U __attribute__((vector_size(VBYTES / sizeof(real) * sizeof(uint32_t))));
/* The lanes of a vector; along the columns CL of them, along the rows RL.  A vector of activations
   holds VL units of one row of the batch, or BY_ROWS one unit of VL rows: a layer of fewer units
   than lanes would leave the others without work. */
#ifndef BY_ROWS
#define BY_ROWS 0
#endif
enum { VL = VBYTES / sizeof(real), CL = BY_ROWS ? 1 : VL, RL = BY_ROWS ? VL : 1 };
/* What one row has in a vector of activations; as many reals of the packed vector. */
typedef real W __attribute__((vector_size(CL * sizeof(real))));

/* All lanes the same; a vector from memory and into it, at any address; a where the mask is set, b
   elsewhere. */
INLINE V v_set(real a) { return a - (V){ 0 }; }
INLINE V v_load(const real *p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void v_store(real *p, V v) { memcpy(p, &v, sizeof v); }
INLINE V v_select(VI mask, V a, V b) { return (V)((mask & (VI)a) | (~mask & (VI)b)); }
/* 1: the mask is set in all lanes. */
INLINE int v_all(VI mask) {
#if defined(X86) && VBYTES < 64
    return CAT(X86(movemask, ), PACKED)((V)mask) == (1 << VL) - 1;
#else
    ireal all = -1;
    for (int j = 0; j < VL; j++) all &= mask[j];
    return all != 0;
#endif
}
INLINE W w_load(const real *p) {
    W w;
    memcpy(&w, p, sizeof w);
    return w;
}
INLINE void w_store(real *p, W w) { memcpy(p, &w, sizeof w); }

/* The weights of CL outputs, for RL rows the same. */
INLINE V v_weight(const real *p) { return BY_ROWS ? v_set(*p) : v_load(p); }

/* a b + c, rounded once where the processor can.  In sums that different functions must repeat to the
   bit: of x0 w0 + x1 w1 the compiler may contract either product. */
INLINE V v_fma(V a, V b, V c) {
#if defined(X86) && defined(__FMA__)
    return CAT(X86(fmadd, ), PACKED)(a, b, c);
#else
    return a * b + c;
#endif
}

/* Lane j: lane at[j] of a, or at[j] - VL of b.  Constant indices, once loops are unrolled, become
   one instruction. */
INLINE V v_shuffle(V a, V b, VI at) {
#ifdef __clang__
    V v;
    for (int j = 0; j < VL; j++) v[j] = at[j] < VL ? a[at[j]] : b[at[j] - VL];
    return v;
#else
    return __builtin_shuffle(a, b, at);
#endif
}

/* All lanes lane `at` of v, a constant: first its 16 bytes everywhere, which all such lanes share. */
INLINE V v_lane(V v, const int at) {
    enum { PART = 16 / sizeof(real) };
    VI part, lane;
    UNROLL_FOR (int j = 0; j < VL; j++) {
        part[j] = at / PART * PART + j % PART;
        lane[j] = j / PART * PART + at % PART;
    }
    const V parts = VBYTES > 16 ? v_shuffle(v, v, part) : v;
    return v_shuffle(parts, parts, lane);
}

/* a > b ? a : b and a < b ? a : b; b where either is NaN */
#ifdef X86
INLINE V v_max(V a, V b) { return CAT(X86(max, ), PACKED)(a, b); }
INLINE V v_min(V a, V b) { return CAT(X86(min, ), PACKED)(a, b); }
#else
INLINE V v_max(V a, V b) { return v_select(a > b, a, b); }
INLINE V v_min(V a, V b) { return v_select(a < b, a, b); }
#endif

/* v between -limit and limit; NaN stays NaN */
INLINE V v_clip(V v, real limit) { return v_min(v_set(limit), v_max(v_set(-limit), v)); }

/* A row of p with n <= VL reals in it, the other lanes zero; and the n lanes of v back into such a
   row. */
INLINE V v_load_part(const real *p, int64_t n) {
    V v = { 0 };
    if (n == VL) return v_load(p);
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
}
INLINE void v_store_part(real *p, V v, int64_t n) {
    if (n == VL)
        v_store(p, v);
    else
        memcpy(p, &v, (size_t)n * sizeof(real));
}

/* The sum of the lanes, from the first on. */
INLINE real v_sum(V v) {
    real s = 0;
    for (int i = 0; i < VL; i++) s += v[i];
    return s;
}

/* The sum over the rows of a vector: halves, quarters, ... exchanged. */
INLINE V v_add_exchanged(V v, const int lanes) {
    VI at;
    UNROLL_FOR (int j = 0; j < VL; j++) at[j] = j ^ lanes;
    return v + v_shuffle(v, v, at);
}
INLINE W w_sum_rows(V v) {
    W sum;
    if (RL > 8) v = v_add_exchanged(v, 8);
    if (RL > 4) v = v_add_exchanged(v, 4);
    if (RL > 2) v = v_add_exchanged(v, 2);
    if (RL > 1) v = v_add_exchanged(v, 1);
    memcpy(&sum, &v, sizeof sum);
    return sum;
}

/* x = n ln2 + r with |r| <= ln2 / 2:  e^x = 2^n e^r.  Gives 2^n and e^r - 1 = r + r^2 q(r).  The
   magic number rounds to the nearest integer and leaves n + bias in the low bits.  fine: ln2 in two
   parts, where e^x itself is wanted to the last bit.  x is `parts` (a power of two) times `part`,
   which may be known sooner.  The terms of q are summed in pairs, to shorten the chain. */
INLINE void v_exp_parts(V x, V part, const real parts, const int fine, V *power, V *expm1) {
#if REAL_BITS == 64
    const real magic = 6755399441055744.0 + 1023;
    const real ln2_hi = 6.93147180369123816490e-01;
    const real ln2_lo = 1.90821492927058770002e-10;
    static const real q[] = {
        0.5,         1 / 6.0,      1 / 24.0,      1 / 120.0,      1 / 720.0,       1 / 5040.0,
        1 / 40320.0, 1 / 362880.0, 1 / 3628800.0, 1 / 39916800.0, 1 / 479001600.0, 1 / 6227020800.0,
    };
    enum { MANTISSA = 52 };
#else
    const real magic = 12582912.0f + 127;
    const real ln2_hi = 0.693359375f;
    const real ln2_lo = -2.12194440e-4f;
    static const real q[] = {
        0.5f, 1.6666667e-1f, 4.1666552e-2f, 8.3333109e-3f, 1.3933169e-3f, 1.9840874e-4f,
    };
    enum { MANTISSA = 23 };
#endif
    enum { TERMS = sizeof q / sizeof *q };
    const V shifted = part * (parts * (real)1.4426950408889634) + magic;
    const V n = shifted - magic;
    const V r = fine ? (x - n * ln2_hi) - n * ln2_lo : x - n * (real)0.69314718055994530942;
    const V r2 = r * r;
    V p = q[TERMS - 1] * r + q[TERMS - 2];
    UNROLL_FOR (int k = TERMS - 4; k >= 0; k -= 2) p = p * r2 + (q[k + 1] * r + q[k]);
    *expm1 = r2 * p + r;
    *power = (V)((VI)shifted << MANTISSA);
}

/* e^x, x limited to where it is a normal number; 1 / (1 + e^-x), of which no -x is computed */
INLINE V v_exp_signed(V x, const int sign) {
    V power, p;
    const V at = v_clip(x, REAL_BITS == 64 ? 708 : 87);
    v_exp_parts(sign < 0 ? -at : at, at, (real)sign, 1, &power, &p);
    return power * p + power;
}
INLINE V v_exp(V x) { return v_exp_signed(x, 1); }
INLINE V v_sigmoid(V x) { return 1 / (1 + v_exp_signed(x, -1)); }

/* g of the minimal gated cells (Feng et al. 2024), which is positive: x + 1/2 where x >= 0, else the
   sigmoid; and its slope from its own value a */
INLINE V v_positive(V x) { return v_select(x >= 0, x + (real)0.5, v_sigmoid(x)); }
INLINE V v_positive_slope(V a) { return v_select(a >= (real)0.5, v_set(1), a * (1 - a)); }

/* tanh |x| = m / (m + 2) with m = e^(2|x|) - 1: no cancellation at either end.  At most 2.5 ulp, as
   is the sigmoid. */
INLINE V v_tanh(V x) {
    const VI sign = (VI)v_set((real)-0.0);
    const V a = v_min(v_set(REAL_BITS == 64 ? 20 : 10), (V)((VI)x & ~sign));
    V power, p;
    v_exp_parts(a + a, a, 2, REAL_BITS == 64, &power, &p);
    V m = power * p + (power - 1);
    return (V)((VI)(m / (m + 2)) | ((VI)x & sign));
}

/* log(1 + t) = 2 artanh(s) with s = t / (2 + t): all terms of the series have one sign.  The terms that
   are needed: for t in [0, 1] LOG1P_TERMS. */
enum { LOG1P_TERMS = REAL_BITS == 64 ? 17 : 8 };
INLINE V v_log1p_series(const int terms, V t) {
    const V s = t / (2 + t), s2 = s * s;
    V sum = v_set(1 / (real)(2 * terms - 1));
    UNROLL_FOR (int k = terms - 2; k >= 0; k--) sum = sum * s2 + 1 / (real)(2 * k + 1);
    return 2 * s * sum;
}
INLINE V v_log1p(V t) { return v_log1p_series(LOG1P_TERMS, t); }

INLINE V v_sqrt(V v) {
#ifdef X86
    return CAT(X86(sqrt, ), PACKED)(v);
#else
    UNROLL_FOR (int i = 0; i < VL; i++) v[i] = REAL_BITS == 64 ? sqrt(v[i]) : sqrtf(v[i]);
    return v;
#endif
}

/* log u of u > 0, a normal number: u = 2^n m with m from sqrt(1/2) to sqrt(2) */
INLINE V v_log(V u) {
    enum { MANTISSA = REAL_BITS == 64 ? 52 : 23, TERMS = REAL_BITS == 64 ? 10 : 5 };
    const VI half = (VI)v_set((real)0.70710678118654752440);
    const VI n = ((VI)u - half) >> MANTISSA;
    const V m = (V)((VI)u - (n << MANTISSA));
    const real magic = REAL_BITS == 64 ? 6755399441055744.0 : 12582912.0f;
    const V exponent = (V)(n + (VI)v_set(magic)) - magic;
    return exponent * (real)0.69314718055994530942 + v_log1p_series(TERMS, m - 1);
}

/* sin x and cos x by their series, x in [-pi/2, pi/2] */
INLINE void v_sin_cos(V x, V *sine, V *cosine) {
    static const double inverse[] = {
        1.0,
        -1 / 6.0,
        1 / 120.0,
        -1 / 5040.0,
        1 / 362880.0,
        -1 / 39916800.0,
        1 / 6227020800.0,
        -1 / 1307674368e3,
        1 / 355687428096e3,
        -1 / 121645100408832e3,
        1 / 51090942171709440e3,
    };
    enum { TERMS = REAL_BITS == 64 ? 11 : 7 };
    const V x2 = x * x;
    V odd = v_set((real)inverse[TERMS - 1]);
    V even = v_set((real)(inverse[TERMS - 1] * (2 * TERMS - 1)));
    UNROLL_FOR (int k = TERMS - 2; k >= 0; k--) {
        odd = odd * x2 + (real)inverse[k];
        even = even * x2 + (real)(inverse[k] * (2 * k + 1));
    }
    *sine = x * odd;
    *cosine = even;
}

/* The nonlinearities of activations.def, and their slopes from their own values a. */
INLINE V v_tanh_slope(V a) { return 1 - a * a; }
INLINE V v_relu(V z) { return v_max(v_set(0), z); }
INLINE V v_relu_slope(V a) { return v_select(a > 0, v_set(1), v_set(0)); }
INLINE V v_sigmoid_slope(V a) { return a * (1 - a); }
INLINE V v_linear(V z) { return z; }
INLINE V v_linear_slope(V a) {
    (void)a;
    return v_set(1);
}
INLINE V v_leaky_relu(V z) { return v_select(z > 0, z, z * (real)0.01); }
INLINE V v_leaky_relu_slope(V a) { return v_select(a > 0, v_set(1), v_set((real)0.01)); }
/* max(0, tanh z) */
INLINE V v_retanh(V z) { return v_max(v_set(0), v_tanh(z)); }
INLINE V v_retanh_slope(V a) { return v_select(a > 0, 1 - a * a, v_set(0)); }
/* log(1 + e^z) without overflow;  1 - e^-a, which is sigmoid z */
INLINE V v_softplus(V z) {
    const V minus = v_min(z, -z);
    return v_max(v_set(0), z) + v_log1p(v_exp(minus));
}
INLINE V v_softplus_slope(V a) {
    V power, p;
    const V at = v_max(v_set(REAL_BITS == 64 ? -708 : -87), -a);
    v_exp_parts(at, at, 1, 1, &power, &p);
    return 1 - power - power * p;
}

/* The rare ones, of the VL reals at z or a; by their address, since not every system aligns vectors
   that it passes. */
__attribute__((noinline)) static void NAME(rare_act)(int act, real *z) {
    switch (act) {
#define ACTIVATION(id, name)
#define RARE_ACTIVATION(id, name)        \
    case ACT_##id:                       \
        v_store(z, v_##name(v_load(z))); \
        break;
#include "activations.def"
    }
}
__attribute__((noinline)) static void NAME(rare_slope)(int act, real *a) {
    switch (act) {
#define ACTIVATION(id, name)
#define RARE_ACTIVATION(id, name)                \
    case ACT_##id:                               \
        v_store(a, v_##name##_slope(v_load(a))); \
        break;
#include "activations.def"
    }
}

/* Of `act`: the value; the slope. */
INLINE V v_act(int act, V z) {
    real values[VL];
    switch (act) {
#define ACTIVATION(id, name) \
    case ACT_##id:           \
        return v_##name(z);
#define RARE_ACTIVATION(id, name)
#include "activations.def"
    }
    v_store(values, z);
    NAME(rare_act)(act, values);
    return v_load(values);
}
INLINE V v_dact(int act, V a) {
    real slopes[VL];
    switch (act) {
#define ACTIVATION(id, name) \
    case ACT_##id:           \
        return v_##name##_slope(a);
#define RARE_ACTIVATION(id, name)
#include "activations.def"
    }
    v_store(slopes, a);
    NAME(rare_slope)(act, slopes);
    return v_load(slopes);
}
