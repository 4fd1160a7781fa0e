/* The transformer on a CPU: some tokens of some sequences in, the logits after a few of them out.

   Every number is computed in one order, whatever stands beside it: a token's logits do not change, bit by bit, with the sequences
   that share the call, with how a prompt is cut into pieces, or with the number of threads.

   Weights are read as they are stored: float32, bfloat16, codes of 8 bits with a scale a row, or of 4 with a scale and a zero for each
   GROUP columns (see packed.py). What codes are multiplied with is rounded to 8 bits too, with a scale for each GROUP numbers, so that
   products are whole numbers; bfloat16 multiplies bfloat16 where the processor can. Sums are float32. All rows are filled up with
   zeros to whole groups.

   n tokens, C width, H query heads, K key-value heads, D width of a head, S tokens that one sees. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define GROUP 64
#define LANES 16
#define ROWS 4
#define PLACES ((ints){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(64), aligned(4)));
typedef int32_t ints __attribute__((vector_size(64), aligned(4)));
typedef uint16_t shorts __attribute__((vector_size(32), aligned(2)));
typedef float half_lanes __attribute__((vector_size(32)));
typedef float quarter_lanes __attribute__((vector_size(16)));
typedef float loose_lanes __attribute__((vector_size(16), aligned(4)));
typedef uint8_t quarter_bytes __attribute__((vector_size(4), aligned(1)));

enum { FLOAT32, BFLOAT16, INT8, INT4 };

typedef struct {
    int64_t kind, rows, columns; /* columns: whole groups */
    const void *codes;           /* blocks of ROWS rows, zeros behind the last: of each row in turn 64 bytes, INT4 32;
                                    INT4: a byte has the codes of columns i and i + GROUP / 2 of its group */
    const void *scale;           /* INT8: float a row; INT4: float16 a group, of ROWS rows in turn */
    const uint8_t *zero;         /* INT4: as scale */
} Matrix;

typedef struct {
    Matrix q, k, v, o, gate, up, down;
    const float *input_norm, *q_norm, *k_norm, *middle_norm;
} Layer;

/* What a matrix is multiplied with, in the forms that the kinds of matrices want. */
typedef struct {
    float *numbers;   /* FLOAT32, and BFLOAT16 where the processor has no products of it */
    uint16_t *halves; /* BFLOAT16 */
    int8_t *codes;    /* INT8, INT4 */
    float *scale;     /* of each group of codes */
    float *sum;       /* of each group of codes, times its scale */
    int32_t *shift;   /* for each group LANES times -128 · (sum of 4 codes) */
} Input;

typedef struct {
    int64_t layers, width, heads, kv_heads, head_dim, hidden, vocabulary, capacity, slots, half_cache, threads;
    float eps;
    const float *cos, *sin; /* (context, D / 2) */
    Matrix embedding, head;
    const Layer *layer;
    const float *last_norm;
    void *keys, *values; /* (layers, slots, K, capacity / LANES, D, LANES) and (layers, slots, K, capacity, D): float, or
                             bfloat16 if half_cache; capacity: whole groups */
    /* Room for the tokens of a call. */
    float *stream, *normed, *q, *k, *v, *attended, *gated;
    float *scores; /* (threads, 2, capacity) */
    Input input;
} Model;

/* ---- numbers ---------------------------------------------------------------------------------------------------------- */

INLINE lanes all(float x) { return (lanes){} + x; }

INLINE float sum(lanes v) {
    half_lanes a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                   __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    quarter_lanes b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
}

/* The sums of four, in the same order. */
INLINE quarter_lanes sums_of(lanes a, lanes b, lanes c, lanes d) {
    lanes ab = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    lanes cd = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    lanes four = __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                 __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    lanes two = four + __builtin_shufflevector(four, four, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    lanes one = two + __builtin_shufflevector(two, two, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return __builtin_shufflevector(one, one, 0, 4, 8, 12);
}

/* a · b + c, rounded once where the processor can. The compiler must not choose (-ffp-contract=off), or a number would depend on the
   loop that computes it. */
INLINE lanes fused(lanes a, lanes b, lanes c) {
#if defined(__AVX512F__)
    return (lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return a * b + c;
#endif
}

/* Where `chosen` is all ones, a; where it is zero, b. */
INLINE lanes pick(ints chosen, lanes a, lanes b) { return (lanes)(((ints)a & chosen) | ((ints)b & ~chosen)); }

INLINE lanes larger(lanes a, lanes b) { return pick(a > b, a, b); }

INLINE lanes from_bfloat16(shorts x) { return (lanes)(__builtin_convertvector(x, ints) << 16); }

/* To the nearest, ties to even; what is not a number stays none. */
INLINE uint16_t to_bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

INLINE quarter_lanes from_float16(const uint16_t *x) {
#if defined(__F16C__)
    return (quarter_lanes)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)x));
#else
    quarter_lanes value;
    for (int i = 0; i < 4; i++) {
        int exponent = (x[i] >> 10) & 31, fraction = x[i] & 1023;
        float size = exponent ? ldexpf((float)(fraction | 1024), exponent - 25) : ldexpf((float)fraction, -24);
        value[i] = x[i] & 0x8000 ? -size : size;
    }
    return value;
#endif
}

/* e to the power of numbers that are 0 or less; 2 ulp. Below -87 it is as good as 0. What is not a number stays none. */
INLINE lanes exponential(lanes x) {
    x = pick(x < -87.0f, all(-87.0f), x);
    lanes shifted = x * 1.44269504f + 12582912.0f; /* its low bits are the nearest whole number */
    ints whole = (ints)shifted - 0x4b400000;
    lanes n = shifted - 12582912.0f;
    lanes r = fused(n, all(-1.42860677e-6f), fused(n, all(-0.693145752f), x));
    lanes y = all(1.98756915e-4f);
    y = fused(y, r, all(1.39819995e-3f));
    y = fused(y, r, all(8.33345191e-3f));
    y = fused(y, r, all(4.16657959e-2f));
    y = fused(y, r, all(1.66666657e-1f));
    y = fused(y, r, all(0.5f));
    y = fused(y * r, r, r) + 1.0f;
    return (lanes)((ints)y + (whole << 23)) + x * 0.0f;
}

INLINE lanes load(const void *from, int64_t at, const int half) {
    return half ? from_bfloat16(*(const shorts *)((const uint16_t *)from + at))
                : *(const lanes *)((const float *)from + at);
}

INLINE float fetch(const void *from, int64_t at, int half) {
    if (!half) return ((const float *)from)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)from)[at] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

INLINE void store(void *to, int64_t at, float x, int half) {
    if (half) ((uint16_t *)to)[at] = to_bfloat16(x);
    else ((float *)to)[at] = x;
}

/* ---- what matrices are multiplied with --------------------------------------------------------------------------------- */

static Input at(Input input, int64_t start) {
    return (Input){input.numbers + start, input.halves + start, input.codes + start,
                   input.scale + start / GROUP, input.sum + start / GROUP, input.shift + start / 4};
}

static void round_group(const float *x, Input to) {
    lanes most = all(0.0f);
    for (int i = 0; i < GROUP; i += LANES) {
        lanes v = *(const lanes *)(x + i);
        most = larger(most, larger(v, -v));
    }
    float largest = 0;
    for (int i = 0; i < LANES; i++) largest = most[i] > largest ? most[i] : largest;
    /* What is not a number must not become one: it is handed on by the scale. */
    float check = 0;
    for (int i = 0; i < GROUP; i++) check += x[i] * 0.0f;
    float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    int32_t total = 0;
    for (int i = 0; i < GROUP; i += LANES) {
        ints code = (ints)(*(const lanes *)(x + i) * inverse + 12582912.0f) - 0x4b400000;
        for (int j = 0; j < LANES; j++) to.codes[i + j] = (int8_t)code[j];
    }
    for (int i = 0; i < GROUP; i += 4) {
        int32_t four = to.codes[i] + to.codes[i + 1] + to.codes[i + 2] + to.codes[i + 3];
        to.shift[i / 4] = -128 * four;
        total += four;
    }
    *to.scale = largest / 127.0f + check;
    *to.sum = *to.scale * (float)total;
}

static void prepare(const float *x, int64_t columns, int kind, Input to) {
    if (kind == FLOAT32) memcpy(to.numbers, x, (size_t)columns * sizeof(float));
    if (kind == BFLOAT16)
#if defined(__AVX512BF16__)
        for (int64_t i = 0; i < columns; i++) to.halves[i] = to_bfloat16(x[i]);
#else
        memcpy(to.numbers, x, (size_t)columns * sizeof(float));
#endif
    if (kind == INT8 || kind == INT4)
        for (int64_t i = 0; i < columns; i += GROUP) round_group(x + i, at(to, i));
}

/* ---- products: R rows of a matrix with T inputs ------------------------------------------------------------------------- */

/* The weights of ROWS rows stand side by side, so many bytes of each in turn, so that a step reads memory in one stream. */
INLINE void dots_float32(const Matrix *m, int64_t row, Input x, const int T, quarter_lanes out[T]) {
    lanes sums[ROWS][T];
    memset(sums, 0, sizeof sums);
    const float *codes = (const float *)m->codes + row * m->columns;
    for (int64_t i = 0; i < m->columns; i += LANES)
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            lanes w = *(const lanes *)(codes + i * ROWS + r * LANES);
#pragma GCC unroll 4
            for (int t = 0; t < T; t++)
                sums[r][t] = fused(w, *(const lanes *)(x.numbers + t * m->columns + i), sums[r][t]);
        }
    for (int t = 0; t < T; t++) out[t] = sums_of(sums[0][t], sums[1][t], sums[2][t], sums[3][t]);
}

INLINE void dots_bfloat16(const Matrix *m, int64_t row, Input x, const int T, quarter_lanes out[T]) {
    lanes sums[ROWS][T];
    memset(sums, 0, sizeof sums);
    const uint16_t *codes = (const uint16_t *)m->codes + row * m->columns;
    for (int64_t i = 0; i < m->columns; i += 2 * LANES)
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            const uint16_t *w = codes + i * ROWS + r * 2 * LANES;
#pragma GCC unroll 4
            for (int t = 0; t < T; t++) {
                int64_t place = t * m->columns + i;
#if defined(__AVX512BF16__)
                sums[r][t] = (lanes)_mm512_dpbf16_ps((__m512)sums[r][t], (__m512bh)_mm512_loadu_si512(w),
                                                     (__m512bh)_mm512_loadu_si512(x.halves + place));
#else
                const lanes *with = (const lanes *)(x.numbers + place);
                sums[r][t] = fused(from_bfloat16(*(const shorts *)w), with[0], sums[r][t]);
                sums[r][t] = fused(from_bfloat16(*(const shorts *)(w + LANES)), with[1], sums[r][t]);
#endif
            }
        }
    for (int t = 0; t < T; t++) out[t] = sums_of(sums[0][t], sums[1][t], sums[2][t], sums[3][t]);
}

/* LANES sums of 4 products each, of signed codes; and of unsigned ones. */
INLINE ints products_int8(const int8_t *w, const int8_t *x, const int32_t *shift) {
#if defined(__AVX512VNNI__)
    __m512i unsigned_w = _mm512_xor_si512(_mm512_loadu_si512(w), _mm512_set1_epi8((char)-128));
    return (ints)_mm512_dpbusd_epi32(_mm512_loadu_si512(shift), unsigned_w, _mm512_loadu_si512(x));
#else
    ints sums = {};
    for (int i = 0; i < GROUP; i++) sums[i / 4] += (int32_t)w[i] * x[i];
    return sums;
#endif
}

INLINE ints products_int4(const uint8_t *pairs, const int8_t *x) {
#if defined(__AVX512VNNI__)
    __m256i both = _mm256_loadu_si256((const __m256i *)pairs), low = _mm256_set1_epi8(15);
    __m512i w = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_and_si256(both, low)),
                                   _mm256_and_si256(_mm256_srli_epi16(both, 4), low), 1);
    return (ints)_mm512_dpbusd_epi32(_mm512_setzero_si512(), w, _mm512_loadu_si512(x));
#else
    ints sums = {};
    for (int i = 0; i < GROUP / 2; i++) {
        sums[i / 4] += (pairs[i] & 15) * x[i];
        sums[i / 4 + LANES / 2] += (pairs[i] >> 4) * x[i + GROUP / 2];
    }
    return sums;
#endif
}

INLINE void dots_int8(const Matrix *m, int64_t row, Input x, const int T, quarter_lanes out[T]) {
    lanes sums[ROWS][T];
    memset(sums, 0, sizeof sums);
    const int8_t *codes = (const int8_t *)m->codes + row * m->columns;
    int64_t groups = m->columns / GROUP;
    for (int64_t g = 0; g < groups; g++)
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int t = 0; t < T; t++) {
                ints found = products_int8(codes + (g * ROWS + r) * GROUP, x.codes + t * m->columns + g * GROUP,
                                           x.shift + (t * groups + g) * LANES);
                sums[r][t] = fused(__builtin_convertvector(found, lanes), all(x.scale[t * groups + g]), sums[r][t]);
            }
    quarter_lanes scale = *(const quarter_lanes *)((const float *)m->scale + row);
    for (int t = 0; t < T; t++) out[t] = sums_of(sums[0][t], sums[1][t], sums[2][t], sums[3][t]) * scale;
}

INLINE void dots_int4(const Matrix *m, int64_t row, Input x, const int T, quarter_lanes out[T]) {
    lanes sums[ROWS][T];
    quarter_lanes zeros[T];
    memset(sums, 0, sizeof sums);
    memset(zeros, 0, sizeof zeros);
    int64_t groups = m->columns / GROUP;
    for (int64_t g = 0; g < groups; g++) {
        int64_t group = row * groups + g * ROWS;
        const uint8_t *pairs = (const uint8_t *)m->codes + group * (GROUP / 2);
        quarter_lanes scale = from_float16((const uint16_t *)m->scale + group);
        quarter_lanes zero = __builtin_convertvector(*(const quarter_bytes *)(m->zero + group), quarter_lanes) * scale;
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) {
            quarter_lanes by = scale * x.scale[t * groups + g];
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; r++) {
                ints found = products_int4(pairs + r * (GROUP / 2), x.codes + t * m->columns + g * GROUP);
                sums[r][t] = fused(__builtin_convertvector(found, lanes), all(by[r]), sums[r][t]);
            }
            zeros[t] += zero * x.sum[t * groups + g];
        }
    }
    for (int t = 0; t < T; t++) out[t] = sums_of(sums[0][t], sums[1][t], sums[2][t], sums[3][t]) - zeros[t];
}

/* While many inputs are multiplied with one block of rows, memory rests: a part of the next block is asked for with each four. */
INLINE void fetch_ahead(const Matrix *m, int64_t row, int64_t t, int64_t n) {
    static const int quarters[] = {16, 8, 4, 2}; /* quarters of a byte a number */
    int64_t start = row * m->columns * quarters[m->kind] / 4, bytes = ROWS * m->columns * quarters[m->kind] / 4;
    const char *next = (const char *)m->codes + start;
    for (int64_t i = bytes * t / n / 64 * 64; i < bytes * (t + 4) / n; i += 64) __builtin_prefetch(next + i);
}

/* out[token][row] of the rows from `first` up to `last`, whole blocks or the matrix's end; `add` adds to what is there. */
#define MULTIPLY(KIND)                                                                                               \
    INLINE void block_##KIND(const Matrix *m, int64_t row, Input x, const int T, float *out, int64_t stride,         \
                             int add) {                                                                              \
        quarter_lanes found[T];                                                                                      \
        int64_t rows = m->rows - row;                                                                                \
        dots_##KIND(m, row, x, T, found);                                                                            \
        for (int t = 0; t < T; t++) {                                                                                \
            float *to = out + t * stride + row;                                                                      \
            if (rows >= ROWS) *(loose_lanes *)to = add ? *(loose_lanes *)to + found[t] : found[t];                   \
            else                                                                                                     \
                for (int r = 0; r < rows; r++) to[r] = add ? to[r] + found[t][r] : found[t][r];                      \
        }                                                                                                            \
    }                                                                                                                \
    static void multiply_##KIND(const Matrix *m, Input x, int64_t n, int64_t first, int64_t last, float *out,        \
                                int64_t stride, int add) {                                                           \
        for (int64_t row = first; row < last; row += ROWS) {                                                         \
            int64_t t = 0;                                                                                           \
            for (; t + 4 <= n; t += 4) {                                                                             \
                if (n > 4) fetch_ahead(m, row + ROWS, t, n);                                                         \
                block_##KIND(m, row, at(x, t * m->columns), 4, out + t * stride, stride, add);                       \
            }                                                                                                        \
            if (n - t == 3) block_##KIND(m, row, at(x, t * m->columns), 3, out + t * stride, stride, add);           \
            if (n - t == 2) block_##KIND(m, row, at(x, t * m->columns), 2, out + t * stride, stride, add);           \
            if (n - t == 1) block_##KIND(m, row, at(x, t * m->columns), 1, out + t * stride, stride, add);           \
        }                                                                                                            \
    }
MULTIPLY(float32)
MULTIPLY(bfloat16)
MULTIPLY(int8)
MULTIPLY(int4)

/* This thread's share of the rows. */
INLINE void share(int64_t rows, int thread, int64_t threads, int64_t *first, int64_t *last) {
    int64_t blocks = (rows + ROWS - 1) / ROWS;
    *first = blocks * thread / threads * ROWS;
    *last = blocks * (thread + 1) / threads * ROWS;
    if (*last > rows) *last = rows;
}

static void multiply(const Matrix *m, Input x, int64_t n, int thread, int64_t threads, float *out, int64_t stride,
                     int add) {
    int64_t first, last;
    share(m->rows, thread, threads, &first, &last);
    if (m->kind == FLOAT32) multiply_float32(m, x, n, first, last, out, stride, add);
    if (m->kind == BFLOAT16) multiply_bfloat16(m, x, n, first, last, out, stride, add);
    if (m->kind == INT8) multiply_int8(m, x, n, first, last, out, stride, add);
    if (m->kind == INT4) multiply_int4(m, x, n, first, last, out, stride, add);
}

static void read_row(const Matrix *m, int64_t row, float *to) {
    int64_t r = row % ROWS, start = (row - r) * m->columns, groups = m->columns / GROUP;
    for (int64_t i = 0; i < m->columns; i++) {
        if (m->kind == FLOAT32)
            to[i] = ((const float *)m->codes)[start + i / LANES * LANES * ROWS + r * LANES + i % LANES];
        if (m->kind == BFLOAT16) {
            int64_t width = 2 * LANES;
            to[i] = fetch(m->codes, start + i / width * width * ROWS + r * width + i % width, 1);
        }
        if (m->kind == INT8)
            to[i] = (float)((const int8_t *)m->codes)[start + i / GROUP * GROUP * ROWS + r * GROUP + i % GROUP] *
                    ((const float *)m->scale)[row];
        if (m->kind == INT4) {
            int64_t first = (row - r) * groups + i / GROUP * ROWS, group = first + r, within = i % GROUP;
            uint8_t pair = ((const uint8_t *)m->codes)[group * (GROUP / 2) + within % (GROUP / 2)];
            int code = within < GROUP / 2 ? pair & 15 : pair >> 4;
            to[i] = (float)(code - m->zero[group]) * from_float16((const uint16_t *)m->scale + first)[r];
        }
    }
}

/* ---- norms, positions, attention ------------------------------------------------------------------------------------------ */

/* x / sqrt(mean(x²) + eps) · weight, of `count` numbers; `to` may be x. */
static void norm(const float *x, const float *weight, int64_t count, float eps, float *to) {
    lanes squares = all(0.0f);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) squares = fused(*(const lanes *)(x + i), *(const lanes *)(x + i), squares);
    float total = sum(squares);
    for (; i < count; i++) total += x[i] * x[i];
    float scale = 1.0f / sqrtf(total / (float)count + eps);
    for (i = 0; i + LANES <= count; i += LANES)
        *(lanes *)(to + i) = *(const lanes *)(x + i) * scale * *(const lanes *)(weight + i);
    for (; i < count; i++) to[i] = x[i] * scale * weight[i];
}

/* Turns each pair (x[i], x[i + D / 2]). */
static void rotate(float *x, const float *cos, const float *sin, int64_t half) {
    int64_t i = 0;
    for (; i + LANES <= half; i += LANES) {
        lanes a = *(lanes *)(x + i), b = *(lanes *)(x + i + half);
        lanes c = *(const lanes *)(cos + i), s = *(const lanes *)(sin + i);
        *(lanes *)(x + i) = a * c - b * s;
        *(lanes *)(x + i + half) = b * c + a * s;
    }
    for (; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

static int64_t cache_start(const Model *m, int64_t layer, int64_t slot, int64_t head) {
    return ((layer * m->slots + slot) * m->kv_heads + head) * m->head_dim * m->capacity;
}

/* Norms and turns a token's queries and key of one key-value head; key and value go into the cache. */
static void remember(const Model *m, int64_t layer, int64_t token, int64_t slot, int64_t position, int64_t head) {
    const Layer *own = m->layer + layer;
    int64_t D = m->head_dim, group = m->heads / m->kv_heads, start = cache_start(m, layer, slot, head);
    const float *cos = m->cos + position * (D / 2), *sin = m->sin + position * (D / 2);
    float *k = m->k + (token * m->kv_heads + head) * D, *v = m->v + (token * m->kv_heads + head) * D;
    for (int64_t h = head * group; h < (head + 1) * group; h++) {
        float *q = m->q + (token * m->heads + h) * D;
        norm(q, own->q_norm, D, m->eps, q);
        rotate(q, cos, sin, D / 2);
    }
    norm(k, own->k_norm, D, m->eps, k);
    rotate(k, cos, sin, D / 2);
    int half = (int)m->half_cache;
    int64_t block = start + position / LANES * LANES * D + position % LANES;
    for (int64_t d = 0; d < D; d++) store(m->keys, block + d * LANES, k[d], half);
    for (int64_t d = 0; d < D; d++) store(m->values, start + position * D + d, v[d], half);
}

/* The values that G queries see, by their weights: `to` gets W vectors of each. */
INLINE void weigh(const Model *m, int64_t from, int64_t seen, const float *weights, const float *inverse, const int G,
                  const int W, float *to, const int half) {
    int64_t D = m->head_dim, room = m->capacity, s = 0;
    lanes even[G][W], odd[G][W];
    memset(even, 0, sizeof even);
    memset(odd, 0, sizeof odd);
    for (; s + 2 <= seen; s += 2)
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) {
            int64_t place = from + s * D + w * LANES;
            lanes first = load(m->values, place, half), second = load(m->values, place + D, half);
#pragma GCC unroll 2
            for (int g = 0; g < G; g++) {
                even[g][w] = fused(all(weights[g * room + s]), first, even[g][w]);
                odd[g][w] = fused(all(weights[g * room + s + 1]), second, odd[g][w]);
            }
        }
    for (int w = 0; w < W; w++)
        for (int g = 0; g < G; g++) {
            if (s < seen) {
                lanes last = load(m->values, from + s * D + w * LANES, half);
                even[g][w] = fused(all(weights[g * room + s]), last, even[g][w]);
            }
            *(lanes *)(to + g * D + w * LANES) = (even[g][w] + odd[g][w]) * inverse[g];
        }
}

/* Numbers into their softmax, but for the division: gives what to divide by. */
static float exponentials(float *scores, int64_t count, lanes most) {
    lanes total = all(0.0f);
    float largest = most[0];
    for (int i = 1; i < LANES; i++) largest = most[i] > largest ? most[i] : largest;
    for (int64_t s = 0; s < count; s += LANES) {
        lanes weight = exponential(*(lanes *)(scores + s) - largest);
        *(lanes *)(scores + s) = weight;
        /* What lies behind the last is never looked at, but here. */
        total += pick(PLACES < (int32_t)(count - s), weight, all(0.0f));
    }
    return sum(total);
}

/* What G queries of a token, one behind the other, get from the tokens up to their own. */
INLINE void attend_as(const Model *m, const float *q, int64_t start, int64_t seen, float *scores, float *to, const int G,
                      const int half) {
    int64_t D = m->head_dim, room = m->capacity;
    float scale = 1.0f / sqrtf((float)D), inverse[G];
    lanes most[G];
    for (int g = 0; g < G; g++) most[g] = all(-INFINITY);
    for (int64_t s = 0; s < seen; s += LANES) {
        lanes even[G], odd[G];
        memset(even, 0, sizeof even);
        memset(odd, 0, sizeof odd);
        for (int64_t d = 0; d < D; d += 2) { /* D is even */
            lanes first = load(m->keys, start + s * D + d * LANES, half);
            lanes second = load(m->keys, start + s * D + (d + 1) * LANES, half);
#pragma GCC unroll 2
            for (int g = 0; g < G; g++) {
                even[g] = fused(all(q[g * D + d]), first, even[g]);
                odd[g] = fused(all(q[g * D + d + 1]), second, odd[g]);
            }
        }
        for (int g = 0; g < G; g++) {
            lanes found = pick(PLACES < (int32_t)(seen - s), (even[g] + odd[g]) * scale, all(-INFINITY));
            *(lanes *)(scores + g * room + s) = found;
            most[g] = larger(most[g], found);
        }
    }
    for (int g = 0; g < G; g++) inverse[g] = 1.0f / exponentials(scores + g * room, seen, most[g]);
    int64_t d = 0;
    for (; d + 4 * LANES <= D; d += 4 * LANES) weigh(m, start + d, seen, scores, inverse, G, 4, to + d, half);
    for (; d + LANES <= D; d += LANES) weigh(m, start + d, seen, scores, inverse, G, 1, to + d, half);
    for (; d < D; d++)
        for (int g = 0; g < G; g++) {
            float found = 0;
            for (int64_t s = 0; s < seen; s++)
                found += scores[g * room + s] * fetch(m->values, start + s * D + d, half);
            to[g * D + d] = found * inverse[g];
        }
}

/* All queries of one key-value head; two at a time, since they see the same. */
static void attend(const Model *m, const float *q, int64_t start, int64_t seen, float *scores, float *to) {
    int64_t group = m->heads / m->kv_heads, D = m->head_dim, g = 0;
    for (; g + 2 <= group; g += 2) {
        if (m->half_cache) attend_as(m, q + g * D, start, seen, scores, to + g * D, 2, 1);
        else attend_as(m, q + g * D, start, seen, scores, to + g * D, 2, 0);
    }
    for (; g < group; g++) {
        if (m->half_cache) attend_as(m, q + g * D, start, seen, scores, to + g * D, 1, 1);
        else attend_as(m, q + g * D, start, seen, scores, to + g * D, 1, 0);
    }
}

/* silu(gate) · up, in place of gate. */
static void gate_by(float *gate, const float *up, int64_t first, int64_t last) {
    int64_t i = first;
    for (; i + LANES <= last; i += LANES) {
        lanes x = *(lanes *)(gate + i), size = larger(x, -x), small = exponential(-size);
        lanes sigmoid = pick(x > 0.0f, all(1.0f), small) / (1.0f + small);
        *(lanes *)(gate + i) = x * sigmoid * *(const lanes *)(up + i);
    }
    for (; i < last; i++) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------ */

INLINE int64_t whole(int64_t count) { return (count + GROUP - 1) / GROUP * GROUP; }

static void prepare_normed(const Model *m, const float *x, const float *weight, int kind, int64_t token) {
    int64_t columns = whole(m->width);
    float *normed = m->normed + token * columns; /* what fills its last group stays zero */
    norm(x, weight, m->width, m->eps, normed);
    prepare(normed, columns, kind, at(m->input, token * columns));
}

/* Tokens of some sequences, each behind those before it: of one sequence they stand in order. Logits (wanted, vocabulary) of the token
   after each that `wanted` names. */
void shuyuan_forward(const Model *m, int64_t n, const int64_t *tokens, const int64_t *slots, const int64_t *positions,
                     int64_t wanted_count, const int64_t *wanted, float *logits) {
    int64_t C = whole(m->width), Q = whole(m->heads * m->head_dim), F = whole(m->hidden), D = m->head_dim;
    int64_t group = m->heads / m->kv_heads, pairs = n * m->kv_heads, threads = m->threads;
    float *up = m->gated + n * F;
#pragma omp parallel num_threads(threads)
    {
        int thread = 0;
#if defined(_OPENMP)
        extern int omp_get_thread_num(void), omp_get_num_threads(void);
        thread = omp_get_thread_num();
        int64_t there = omp_get_num_threads();
#else
        int64_t there = 1;
#endif
        float *scores = m->scores + thread * 2 * m->capacity;
#pragma omp for
        for (int64_t t = 0; t < n; t++) read_row(&m->embedding, tokens[t], m->stream + t * C);
        for (int64_t l = 0; l < m->layers; l++) {
            const Layer *own = m->layer + l;
#pragma omp for
            for (int64_t t = 0; t < n; t++)
                prepare_normed(m, m->stream + t * C, own->input_norm, (int)own->q.kind, t);
            multiply(&own->q, m->input, n, thread, there, m->q, m->heads * D, 0);
            multiply(&own->k, m->input, n, thread, there, m->k, m->kv_heads * D, 0);
            multiply(&own->v, m->input, n, thread, there, m->v, m->kv_heads * D, 0);
#pragma omp barrier
#pragma omp for
            for (int64_t i = 0; i < pairs; i++) {
                int64_t t = i / m->kv_heads;
                remember(m, l, t, slots[t], positions[t], i % m->kv_heads);
            }
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < pairs; i++) {
                int64_t t = i / m->kv_heads, head = i % m->kv_heads, start = cache_start(m, l, slots[t], head);
                float *q = m->q + (t * m->heads + head * group) * D, *to = m->attended + t * Q + head * group * D;
                attend(m, q, start, positions[t] + 1, scores, to);
            }
#pragma omp for
            for (int64_t t = 0; t < n; t++) prepare(m->attended + t * Q, Q, (int)own->o.kind, at(m->input, t * Q));
            multiply(&own->o, m->input, n, thread, there, m->stream, C, 1);
#pragma omp barrier
#pragma omp for
            for (int64_t t = 0; t < n; t++)
                prepare_normed(m, m->stream + t * C, own->middle_norm, (int)own->gate.kind, t);
            multiply(&own->gate, m->input, n, thread, there, m->gated, F, 0);
            multiply(&own->up, m->input, n, thread, there, up, F, 0);
            int64_t first, last;
            share(m->hidden, thread, there, &first, &last);
            for (int64_t t = 0; t < n; t++) gate_by(m->gated + t * F, up + t * F, first, last);
#pragma omp barrier
#pragma omp for
            for (int64_t t = 0; t < n; t++) prepare(m->gated + t * F, F, (int)own->down.kind, at(m->input, t * F));
            multiply(&own->down, m->input, n, thread, there, m->stream, C, 1);
#pragma omp barrier
        }
#pragma omp for
        for (int64_t i = 0; i < wanted_count; i++)
            prepare_normed(m, m->stream + wanted[i] * C, m->last_norm, (int)m->head.kind, i);
        multiply(&m->head, m->input, wanted_count, thread, there, logits, m->vocabulary, 0);
    }
}

/* Copies what one sequence remembers to another slot: its first `count` tokens. */
void shuyuan_copy(const Model *m, int64_t from, int64_t to, int64_t count) {
    size_t bytes = m->half_cache ? 2 : 4;
    for (int64_t l = 0; l < m->layers; l++)
        for (int64_t head = 0; head < m->kv_heads; head++) {
            int64_t source = cache_start(m, l, from, head), target = cache_start(m, l, to, head);
            char *keys = m->keys, *values = m->values;
            memcpy(keys + target * bytes, keys + source * bytes, (size_t)((count + LANES - 1) / LANES * LANES * m->head_dim) * bytes);
            memcpy(values + target * bytes, values + source * bytes, (size_t)(count * m->head_dim) * bytes);
        }
}

/* The product of a matrix and one input, for the test at the start. */
void shuyuan_multiply(const Matrix *m, const float *x, Input input, float *out) {
    prepare(x, m->columns, (int)m->kind, input);
    multiply(m, input, 1, 0, 1, out, m->rows, 0);
}
