/* gemm.h: the one micro-kernel, and the products that do not depend on time: y = x W' + b for all rows at once, its way
   back, and the weight gradients.  Every output element is summed by one thread in one fixed order over k, whatever the
   height of the tile it lies in, so neither the split into threads nor the rows beside it can change its bits. */

enum { PANEL_MAX = 4, HEIGHT_MAX = 12 };
INLINE int64_t blocks_of(int64_t columns) { return (columns + VL - 1) / VL; }
/* Where part `part` of `parts` equal shares of n begins. */
INLINE int64_t share(int64_t n, int64_t part, int64_t parts) { return parts > 1 ? n * part / parts : part ? n : 0; }

/* The micro-kernel, mr rows by nv vectors:  out(i, v) = bias(v) + start(i, v) + sum over k of a(i, k) w(k, v).
   k runs over (block of units, gate, lane), real units only;  w: nv vectors for each k, contiguous.  Each shape is a function
   of its own, so that the registers hold its sums and nothing else.  bias and start may be NULL. */
typedef struct {
    int64_t units, gates;
    int64_t row, block;                                  /* of a: from row to row, from one VL columns to the next */
    int64_t start_row, start_block, out_row, out_block;
} operands;
typedef void product(const operands *, const real *a, const real *w, const real *bias, const real *start, real *out);

INLINE void tile_product(const int mr, const int nv, const int64_t row, const operands *o, const real *a, const real *w,
                         const real *bias, const real *start, real *out) {
    V acc[HEIGHT_MAX][PANEL_MAX];
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int v = 0; v < nv; v++) {
            acc[i][v] = bias ? v_load(bias + v * VL) : v_set(0);
            if (start) acc[i][v] += v_load(start + i * o->start_row + v * o->start_block);
        }
    for (int64_t u = 0; u < o->units; u += VL) {
        const int64_t n = min64(VL, o->units - u);
        for (int64_t g = 0; g < o->gates; g++, a += o->block)
            UNROLL_4_FOR (int64_t j = 0; j < n; j++, w += nv * VL) {
                V b[PANEL_MAX];
                UNROLL_FOR (int v = 0; v < nv; v++) b[v] = v_load(w + v * VL);
                UNROLL_FOR (int i = 0; i < mr; i++) {
                    const V x = v_set(a[i * row + j]);
                    UNROLL_FOR (int v = 0; v < nv; v++) acc[i][v] += x * b[v];
                }
            }
    }
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int v = 0; v < nv; v++) v_store(out + i * o->out_row + v * o->out_block, acc[i][v]);
}

/* The shapes: for a panel of nv vectors the heights that the registers hold, tallest first.  Rows that lie far apart (a
   single sequence's steps) need an address each. */
#define EACH_HEIGHT(X, nv) X(12, nv) X(8, nv) X(6, nv) X(4, nv) X(3, nv) X(2, nv) X(1, nv)
#define EACH_SHAPE(X) EACH_HEIGHT(X, 1) EACH_HEIGHT(X, 2) EACH_HEIGHT(X, 3) EACH_HEIGHT(X, 4)
#define TALL(nv) ((nv) == 1 ? (TILE > 12 ? 12 : 8) : TILE / (nv))
#define TALL_FAR(nv) ((nv) == 1 ? (TILE > 12 ? 8 : 4) : (nv) == 4 && TILE <= 12 ? 3 : 4)
#define PRODUCT(mr, nv)                                                                                                   \
    static void product_##mr##x##nv(const operands *o, const real *a, const real *w, const real *bias, const real *start, \
                                     real *out) {                                                                          \
        tile_product(mr, nv, VL, o, a, w, bias, start, out);                                                                    \
    }                                                                                                                     \
    static void product_far_##mr##x##nv(const operands *o, const real *a, const real *w, const real *bias,                    \
                                         const real *start, real *out) {                                                   \
        tile_product(mr, nv, o->row, o, a, w, bias, start, out);                                                                \
    }
EACH_SHAPE(PRODUCT)
#define NEAR_ENTRY(mr, nv) [nv][mr] = (mr) <= TALL(nv) ? product_##mr##x##nv : NULL,
#define FAR_ENTRY(mr, nv) [nv][mr] = (mr) <= TALL_FAR(nv) ? product_far_##mr##x##nv : NULL,
static product *const near_products[PANEL_MAX + 1][HEIGHT_MAX + 1] = { EACH_SHAPE(NEAR_ENTRY) };
static product *const far_products[PANEL_MAX + 1][HEIGHT_MAX + 1] = { EACH_SHAPE(FAR_ENTRY) };

/* The next tile of `left` rows: the tallest, unless it would leave a few rows that two tiles of middling height take faster. */
INLINE int64_t tile_height(int64_t limit, int64_t left) {
    static const int8_t heights[] = { 12, 8, 6, 4, 3, 2, 1 };
    const int64_t most_rows = left > limit && left < limit + 4 && limit > 4 ? (left + 1) / 2 : left < limit ? left : limit;
    int n = 0;
    while (heights[n] > most_rows) n++;
    return heights[n];
}

/* The same for a single row, for `panels` panels of nv vectors that lie `apart` reals from each other: four partial sums over
   k modulo 4, since one sum would wait for the latency of the FMA.
   back: k downwards (blocks must be whole).  Weights a little larger than the nearest cache, read over and over in the same
   order, are never there when they are wanted; read to and fro, most of them are. */
#define ROW_STEP(q) {                                                                                                    \
        const V x = v_set(a[j + (q)]);                                                                                   \
        UNROLL_FOR (int v = 0; v < nv * panels; v++) part[q][v] += x * v_load(w + (q) * nv * VL + v / nv * apart + v % nv * VL); \
    }
INLINE void row_product(const int nv, const int panels, int64_t apart, int64_t units, int64_t gates, const real *a,
                        int64_t block, const real *w, int back, V acc[][PANEL_MAX]) {
    V part[4][PANEL_MAX];
    UNROLL_FOR (int q = 0; q < 4; q++) UNROLL_FOR (int v = 0; v < nv * panels; v++) part[q][v] = v_set(0);
    if (back) {
        const int64_t count = units / VL * gates;
        a += (count - 1) * block, w += (count * VL - 4) * nv * VL;
        for (int64_t n = 0; n < count; n++, a -= block)
            for (int64_t j = VL - 4; j >= 0; j -= 4, w -= 4 * nv * VL) UNROLL_FOR (int q = 0; q < 4; q++) ROW_STEP(q)
    } else
        for (int64_t u = 0; u < units; u += VL) {
            const int64_t n = min64(VL, units - u);
            for (int64_t g = 0; g < gates; g++, a += block) {
                int64_t j = 0;
                for (; j + 4 <= n; j += 4, w += 4 * nv * VL) UNROLL_FOR (int q = 0; q < 4; q++) ROW_STEP(q)
                for (; j < n; j++, w += nv * VL) ROW_STEP(0)
            }
        }
    UNROLL_FOR (int v = 0; v < nv * panels; v++) acc[0][v] += (part[0][v] + part[1][v]) + (part[2][v] + part[3][v]);
}

/* A single sequence: its steps are the rows.  One step of it (REDUCE_STEP) is a row by itself, summed by row_product. */
INLINE void steps_as_rows(span *at, field *const fields[], int count) {
    if (at->reduction != REDUCE_SEQUENCE) return;
    for (int i = 0; i < count; i++)
        if (fields[i]->p) {
            const field f = *fields[i];
            *fields[i] = (field){ (real *)f.p + at->t0 * f.step, 0, f.block, f.step };
        }
    *at = (span){ .t0 = 0, .t1 = 1, .r0 = 0, .r1 = at->r1 > at->r0 ? at->t1 - at->t0 : 0, .reduction = REDUCE_SEQUENCE };
}
INLINE int64_t last_row(const span *at, int64_t t) { return at->batch_sizes ? min64(at->batch_sizes[t], at->r1) : at->r1; }
INLINE real *chunk(const field *f, int64_t t, int64_t r, int64_t block) {
    return f->p ? (real *)f->p + t * f->step + r * f->row + block * f->block : NULL;
}

/* For loops over time: one step of a span, and the field whose chunk t is the given one's chunk t + steps. */
INLINE span one_step(const span *at, int64_t t) {
    return (span){ t, t + 1, at->r0, at->r1, at->batch_sizes, at->reduction ? REDUCE_STEP : REDUCE_ROWS };
}
INLINE field later(const field *f, int64_t steps) {
    return (field){ (real *)f->p + steps * f->step, f->step, f->block, f->row };
}

/* The field whose chunk t is the input projection of step t. */
INLINE field inputs_at(const frame *f, int64_t t) {
    if (!f->phases) return f->zx;
    return later(&(field){ (real *)f->zx.p + t / f->phases * f->zx.row, f->zx.step, f->zx.block, f->zx.row }, t % f->phases - t);
}

/* One panel of nv vectors, all rows of a step: out = bias + start + a W.  one: a single row, summed by row_product. */
INLINE void panel_product(const operands *o, int64_t nv, int64_t rows, int one, const real *a, const real *w, const real *bias,
                          const real *start, real *out) {
    if (one) {
        V acc[1][PANEL_MAX];
        for (int v = 0; v < nv; v++) {
            acc[0][v] = bias ? v_load(bias + v * VL) : v_set(0);
            if (start) acc[0][v] += v_load(start + v * o->start_block);
        }
        switch (nv) {
        case 1: row_product(1, 1, 0, o->units, o->gates, a, o->block, w, 0, acc); break;
        case 2: row_product(2, 1, 0, o->units, o->gates, a, o->block, w, 0, acc); break;
        case 3: row_product(3, 1, 0, o->units, o->gates, a, o->block, w, 0, acc); break;
        case 4: row_product(4, 1, 0, o->units, o->gates, a, o->block, w, 0, acc); break;
        }
        for (int v = 0; v < nv; v++) v_store(out + v * o->out_block, acc[0][v]);
        return;
    }
    product *const *shape = (o->row == VL ? near_products : far_products)[nv];
    const int64_t tall = o->row == VL ? TALL(nv) : TALL_FAR(nv);
    for (int64_t i = 0, height; i < rows; i += height) {
        height = tile_height(tall, rows - i);
        shape[height](o, a + i * o->row, w, bias, start ? start + i * o->start_row : NULL, out + i * o->out_row);
    }
}

/* y = act(add + x_segment W_segment' + bias).  `add` may be y; bias and add may be NULL. */
static void NAME(forward)(const matrix *m, const void *work, const matrix *bias, int64_t segment, int act, const field *x_,
                          const field *add_, const field *y_, const span *at_) {
    field xs = *x_, ys = *y_, adds = add_ ? *add_ : (field){0}, *xf = &xs, *yf = &ys, *af = &adds;
    span at = *at_;
    steps_as_rows(&at, (field *[]){ xf, yf, af }, 3);
    const int64_t width = m->width, vectors = m->vectors, K = m->K;
    const operands o = { K, 1, xf->row, xf->block, af->row, af->block, yf->row, yf->block };
    for (int64_t t = at.t0; t < at.t1; t++) {
        const int64_t rows = last_row(&at, t) - at.r0;
        const real *x = chunk(xf, t, at.r0, 0);
        if (rows <= 0) continue;
        for (int64_t n = 0; n < vectors; n += width) {
            const int64_t nv = min64(width, vectors - n);
            const real *w = (const real *)work + m->packed + (n * m->cols + segment * K * nv) * VL;
            const real *b = bias ? (const real *)work + bias->packed + n * VL : NULL;
            real *y = chunk(yf, t, at.r0, n);
            panel_product(&o, nv, rows, at.reduction == REDUCE_STEP, x, w, b, chunk(af, t, at.r0, n), y);
            if (act == ACT_LINEAR) continue;
            for (int v = 0; v < nv; v++) {
                real *out = y + v * yf->block;
                for (int64_t r = 0; r < rows; r++, out += yf->row) v_store(out, v_act(act, v_load(out)));
            }
        }
    }
}

/* dx_segment = (dz W_segment) . act'(a), or added to what dx holds; a may be NULL. */
static void NAME(backward)(const matrix *m, int64_t segment, const field *z_, const field *x_, int add, int act,
                           const field *a_, const span *at_) {
    field zs = *z_, xs = *x_, as = a_ ? *a_ : (field){0}, *zf = &zs, *xf = &xs, *af = &as;
    span at = *at_;
    steps_as_rows(&at, (field *[]){ zf, xf, af }, 3);
    const int64_t vectors = blocks_of(m->K), depth = m->gates * m->units;
    const operands o = { m->units, m->gates, zf->row, zf->block, xf->row, xf->block, xf->row, xf->block };
    for (int64_t t = at.t0; t < at.t1; t++) {
        const int64_t rows = last_row(&at, t) - at.r0;
        const real *dz = chunk(zf, t, at.r0, 0);
        if (rows <= 0) continue;
        for (int64_t n = 0; n < vectors; n += 2) {
            const int64_t nv = min64(2, vectors - n);
            const real *w = (const real *)m->transposed + (segment * vectors + n) * VL * depth;
            real *dx = chunk(xf, t, at.r0, n);
            panel_product(&o, nv, rows, at.reduction == REDUCE_STEP, dz, w, NULL, add ? dx : NULL, dx);
            if (a_)
                for (int v = 0; v < nv; v++) {
                    const real *value = chunk(af, t, at.r0, n + v);
                    real *out = dx + v * xf->block;
                    for (int64_t r = 0; r < rows; r++, out += xf->row, value += af->row)
                        v_store(out, v_load(out) * v_dact(act, v_load(value)));
                }
        }
    }
}

/* dW' (columns, vectors) = sum over all rows of x' dz, in the layout of the packed weights: a tile is mr columns of x by nv
   vectors of dz.  Steps are taken in groups that stay in the cache; a group adds to what the last one left. */
enum { COLLECT_HIGH = VL < (TILE > 12 ? 8 : 4) ? VL : (TILE > 12 ? 8 : 4), COLLECT_ROWS = 128, COLLECT_COLUMNS = 256 };
typedef void collector(const field *xf, const real *x, const field *zf, const real *dz, const span *at, real *grad, int64_t stride,
                       int add);
INLINE void tile_collect(const int mr, const int nv, const field *xf, const real *x, const field *zf, const real *dz,
                         const span *at, real *grad, int64_t stride, int add) {
    V acc[HEIGHT_MAX][PANEL_MAX];
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int v = 0; v < nv; v++) acc[i][v] = v_set(0), __builtin_prefetch(grad + i * stride + v * VL, 1);
    for (int64_t t = at->t0; t < at->t1; t++) {
        const real *a = x + t * xf->step + at->r0 * xf->row, *b = dz + t * zf->step + at->r0 * zf->row;
        const int64_t rows = last_row(at, t) - at->r0;
        for (int64_t r = 0; r < rows; r++, a += xf->row, b += zf->row) {
            V d[PANEL_MAX];
            __builtin_prefetch(a + 8 * xf->row);
            UNROLL_FOR (int v = 0; v < nv; v++) d[v] = v_load(b + v * zf->block);
            UNROLL_FOR (int i = 0; i < mr; i++) UNROLL_FOR (int v = 0; v < nv; v++) acc[i][v] += v_set(a[i]) * d[v];
        }
    }
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int v = 0; v < nv; v++) {
            real *g = grad + i * stride + v * VL;
            v_store(g, add ? v_load(g) + acc[i][v] : acc[i][v]);
        }
}
#define COLLECTOR(mr, nv)                                                                                                     \
    static void collect_##mr##x##nv(const field *xf, const real *x, const field *zf, const real *dz, const span *at, real *grad, \
                                    int64_t stride, int add) {                                                                \
        tile_collect(mr, nv, xf, x, zf, dz, at, grad, stride, add);                                                           \
    }
EACH_SHAPE(COLLECTOR)
#define COLLECT_ENTRY(mr, nv) [nv][mr] = (mr) <= COLLECT_HIGH ? collect_##mr##x##nv : NULL,
static collector *const collectors[PANEL_MAX + 1][HEIGHT_MAX + 1] = { EACH_SHAPE(COLLECT_ENTRY) };
static void NAME(collect)(const matrix *m, int64_t segment, const field *x_, const field *z_, void *grad, int add,
                          const span *at_, int64_t part, int64_t parts) {
    field xs = *x_, zs = *z_, *xf = &xs, *zf = &zs;
    span all = *at_;
    steps_as_rows(&all, (field *[]){ xf, zf }, 2);
    const int64_t width = m->width, vectors = m->vectors, K = m->K;
    int64_t first = 0, last = vectors, c0 = 0, c1 = K;
    if (parts > 1) {                  /* the threads share the panels, or the columns where there are more of them */
        const int64_t panels = (vectors + width - 1) / width, tiles = (K + COLLECT_HIGH - 1) / COLLECT_HIGH;
        if (panels >= tiles) first = panels * part / parts * width, last = min64(vectors, panels * (part + 1) / parts * width);
        else c0 = tiles * part / parts * COLLECT_HIGH, c1 = min64(K, tiles * (part + 1) / parts * COLLECT_HIGH);
    }
    const int64_t rows_once = COLLECT_ROWS, steps_once = all.t1 - all.t0 == 1 ? 1 : max64(1, rows_once / max64(1, all.r1 - all.r0));
    for (int64_t t = all.t0; t < all.t1; t += steps_once)
        for (int64_t r = all.r0; r < all.r1; r += rows_once, add = 1) {
            const span group = { t, min64(all.t1, t + steps_once), r, min64(all.r1, r + rows_once), all.batch_sizes, all.reduction };
            const span *at = &group;
            for (int64_t c = c0; c < c1; c += COLLECT_COLUMNS)
                for (int64_t n = first; n < last; n += width) {
                    const int64_t nv = min64(width, vectors - n), stride = nv * VL, columns = min64(COLLECT_COLUMNS, c1 - c);
                    real *g = (real *)grad + m->packed + (n * m->cols + (segment * K + c) * nv) * VL;
                    const real *x = (const real *)xf->p, *dz = (const real *)zf->p + n * zf->block;
                    for (int64_t v = 0, wide; v < nv; v += wide) {
                        wide = nv == 4 ? 2 : nv;
                        for (int64_t i = 0, height; i < columns; i += height) {
                            height = tile_height(COLLECT_HIGH, min64(COLLECT_HIGH, columns - i));   /* within a block of x */
                            collectors[wide][height](xf, x + (c + i) / VL * xf->block + (c + i) % VL, zf, dz + v * zf->block, at,
                                                     g + i * stride + v * VL, stride, add);
                        }
                    }
                }
        }
}

/* db = sum over all rows of dz, for a bias and for one that has the same gradient (or NULL) */
static void NAME(collect_bias)(const matrix *m, const matrix *twin, const field *z_, void *grad, int add, const span *at_,
                               int64_t part, int64_t parts) {
    field zs = *z_, *zf = &zs;
    span all = *at_, *at = &all;
    steps_as_rows(at, &zf, 1);
    const int64_t first = share(m->vectors, part, parts), last = share(m->vectors, part + 1, parts);
    for (int64_t n = first; n < last; n++) {
        real *g = (real *)grad + m->packed + n * VL;
        V acc[4] = { add ? v_load(g) : v_set(0) };
        for (int64_t t = at->t0; t < at->t1; t++) {
            const real *dz = (const real *)zf->p + t * zf->step + n * zf->block + at->r0 * zf->row;
            const int64_t rows = last_row(at, t) - at->r0;
            int64_t r = 0;
            for (; r + 4 <= rows; r += 4) UNROLL_FOR (int q = 0; q < 4; q++) acc[q] += v_load(dz + (r + q) * zf->row);
            for (; r < rows; r++) acc[0] += v_load(dz + r * zf->row);
        }
        acc[0] = (acc[0] + acc[1]) + (acc[2] + acc[3]);
        v_store(g, acc[0]);
        if (twin) v_store((real *)grad + twin->packed + n * VL, acc[0]);
    }
}

/* Flat (PyTorch's order) to packed and back, each thread its share; padding is written as zero. */
INLINE real *packed_row(const matrix *m, void *work, int64_t ub, int64_t g, int64_t *stride) {
    const int64_t n = ub * m->gates + g, first = m->gates == 1 ? n / 2 * 2 : ub * m->gates,
        nv = min64(m->width, m->vectors - first);
    *stride = nv * VL;
    return (real *)work + m->packed + (first * m->cols + n - first) * VL;
}
/* rows[i][j] <-> rows[j][i]: log2(VL) perfect shuffles of the rows' halves */
INLINE void v_transpose(V *rows) {
    VI low, high;
    UNROLL_FOR (int j = 0; j < VL; j++) low[j] = j % 2 * VL + j / 2, high[j] = low[j] + VL / 2;
    UNROLL_FOR (int n = 1; n < VL; n *= 2) {
        V out[VL];
        UNROLL_FOR (int i = 0; i < VL / 2; i++) {
            out[2 * i] = v_shuffle(rows[i], rows[i + VL / 2], low);
            out[2 * i + 1] = v_shuffle(rows[i], rows[i + VL / 2], high);
        }
        UNROLL_FOR (int i = 0; i < VL; i++) rows[i] = out[i];
    }
}
static void NAME(pack)(const matrix *m, const void *flat, void *work, int64_t part, int64_t parts) {
    int64_t stride;
    const int64_t first = share(m->vectors, part, parts), last = share(m->vectors, part + 1, parts);
    for (int64_t v = first; v < last; v++) {
        const int64_t ub = v / m->gates, g = v % m->gates;
        real *to = packed_row(m, work, ub, g, &stride);
        const int64_t n = min64(VL, m->units - ub * VL);
        const real *from = (const real *)flat + m->flat + (g * m->units + ub * VL) * m->cols;
        for (int64_t c = 0; c < m->cols; c += VL) {
            const int64_t columns = min64(VL, m->cols - c);
            V rows[VL];
            for (int64_t j = 0; j < VL; j++) rows[j] = j < n ? v_load_part(from + j * m->cols + c, columns) : v_set(0);
            v_transpose(rows);
            for (int64_t k = 0; k < columns; k++, to += stride) v_store(to, rows[k]);
        }
    }
}
static void NAME(unpack)(const matrix *m, const void *work, void *flat, int64_t part, int64_t parts) {
    int64_t stride;
    const int64_t first = share(m->vectors, part, parts), last = share(m->vectors, part + 1, parts);
    for (int64_t v = first; v < last; v++) {
        const int64_t ub = v / m->gates, g = v % m->gates;
        const real *from = packed_row(m, (void *)work, ub, g, &stride);
        const int64_t n = min64(VL, m->units - ub * VL);
        real *to = (real *)flat + m->flat + (g * m->units + ub * VL) * m->cols;
        for (int64_t c = 0; c < m->cols; c += VL) {
            const int64_t columns = min64(VL, m->cols - c);
            V rows[VL];
            for (int64_t k = 0; k < VL; k++) rows[k] = k < columns ? v_load(from + k * stride) : v_set(0);
            from += columns * stride;
            v_transpose(rows);
            for (int64_t j = 0; j < n; j++) v_store_part(to + j * m->cols + c, rows[j], columns);
        }
    }
}

/* The packed copy for the backward pass, from the packed weights. */
static void NAME(pack_transposed)(const matrix *m, const void *work, int64_t part, int64_t parts) {
    const int64_t K = m->K, vectors = blocks_of(K), depth = m->gates * m->units, all = m->column_groups * vectors;
    const int64_t from_n = share(all, part, parts), to_n = share(all, part + 1, parts);
    for (int64_t segment = 0; segment < m->column_groups; segment++)
        for (int64_t kb = max64(0, from_n - segment * vectors); kb < min64(vectors, to_n - segment * vectors); kb++) {
            const int64_t first = kb / 2 * 2, nv = min64(2, vectors - first), count = min64(VL, K - kb * VL);
            real *to = (real *)m->transposed + ((segment * vectors + first) * depth + kb - first) * VL;
            for (int64_t ub = 0; ub < blocks_of(m->units); ub++)
                for (int64_t g = 0; g < m->gates; g++) {
                    int64_t stride;
                    const real *from = packed_row(m, (void *)work, ub, g, &stride) + (segment * K + kb * VL) * stride;
                    const int64_t units = min64(VL, m->units - ub * VL);
                    if (units <= 2) {                    /* a few outputs: not worth the exchanges */
                        for (int64_t j = 0; j < units; j++, to += nv * VL)
                            for (int64_t k = 0; k < VL; k++) to[k] = k < count ? from[k * stride + j] : 0;
                        continue;
                    }
                    V rows[VL];
                    for (int64_t k = 0; k < VL; k++) rows[k] = k < count ? v_load(from + k * stride) : v_set(0);
                    v_transpose(rows);
                    for (int64_t j = 0; j < units; j++, to += nv * VL) v_store(to, rows[j]);
                }
        }
}
