/* gemm.h: the one micro-kernel, and the products that do not depend on time: y = x W' + b for all
   rows at once, its backward pass, and the weight gradients; packing and unpacking of weights.

   Every output element is summed by one thread in one fixed order over k, whatever the height of
   the tile it lies in, so neither the split into threads nor the other rows can change its bits.
   layers.c, head.c, update.c, online.c and curvature.c call the functions with NAME through the
   table of kernels; scan.h, the cells, rows.h and curvature.h use the others. */

/* The largest tile: vectors, rows. */
enum { PANEL_MAX = 4, HEIGHT_MAX = 12 };

/* Vectors that hold so many columns. */
INLINE int64_t blocks_of(int64_t columns) { return (columns + CL - 1) / CL; }

/* -- rows -- */

/* Neighbouring rows of a step, in vectors: whole ones, or (only BY_ROWS) a single one of which the
   lanes of `mask` are meant.  A kernel writes no other rows than those it is called for. */
typedef struct {
    /* the first row of the vectors, a multiple of RL; how many vectors */
    int64_t r;
    int64_t vectors;
    int partial;
    VI mask;
} row_part;

/* The rows [r, r1), or the first of several parts of them; next_part: what follows a part. */
INLINE row_part first_part(int64_t r, int64_t r1) {
    row_part part = { .r = r / RL * RL, .vectors = max64(0, (r1 - r) / RL) };
    if (RL == 1 || r >= r1 || (part.r == r && part.vectors)) return part;
    VI lane;
    for (int j = 0; j < VL; j++) lane[j] = j;
    part.vectors = part.partial = 1;
    part.mask = (lane >= (ireal)(r - part.r)) & (lane < (ireal)min64(r1 - part.r, RL));
    return part;
}
INLINE row_part next_part(const row_part *part, int64_t r1) {
    return first_part(part->r + part->vectors * RL, r1);
}

/* The same, one vector at a time. */
INLINE row_part first_vector(int64_t r, int64_t r1) {
    row_part part = first_part(r, r1);
    part.vectors = min64(part.vectors, 1);
    return part;
}
INLINE row_part next_vector(const row_part *part, int64_t r1) {
    return first_vector(part->r + RL, r1);
}

/* The lanes of a part that are meant; NULL: all. */
INLINE const VI *lanes_of(const row_part *part) {
    return RL > 1 && part->partial ? &part->mask : NULL;
}

/* Such lanes from memory, zeros in the others; and into memory, where the others stay. */
INLINE V v_load_lanes(const real *p, const VI *lanes) {
    const V v = v_load(p);
    return RL > 1 && lanes ? v_select(*lanes, v, v_set(0)) : v;
}
INLINE void v_store_lanes(real *p, V v, const VI *lanes) {
    v_store(p, RL > 1 && lanes ? v_select(*lanes, v, v_load(p)) : v);
}

/* -- fields and spans -- */

/* End of the rows of step t that a call works on: those active in [r0, r1). */
INLINE int64_t last_row(const span *at, int64_t t) {
    return at->batch_sizes ? min64(at->batch_sizes[t], at->r1) : at->r1;
}

/* The first step after t with another number of active rows than step t, or the end of the span. */
INLINE int64_t same_rows_end(const span *at, int64_t t) {
    int64_t end = t + 1;
    if (!at->batch_sizes) return at->t1;
    while (end < at->t1 && last_row(at, end) == last_row(at, t)) end++;
    return end;
}

/* End of the rows for a kernel that takes each row by itself: after the last row of the batch it may
   write the padding, too, which fills the vector. */
INLINE int64_t padded_row(const span *at, int64_t end) {
    return RL > 1 && end == at->rows ? (end + RL - 1) / RL * RL : end;
}
INLINE int64_t last_padded_row(const span *at, int64_t t) {
    return padded_row(at, last_row(at, t));
}

/* Reals from one row of a field to the next. */
INLINE int64_t row_of(const field *f) { return BY_ROWS ? 1 : f->row; }

/* The vector that begins with row r in a block of columns at step t; NULL in a field that there is
   not. */
INLINE real *chunk(const field *f, int64_t t, int64_t r, int64_t block) {
    return f->p ? (real *)f->p + t * f->step + r * f->row + block * f->block : NULL;
}

/* For loops over time: one step of a span, and the field whose chunk t is the given one's chunk
   t + steps. */
INLINE span one_step(const span *at, int64_t t) {
    return (span){
        .t0 = t,
        .t1 = t + 1,
        .r0 = at->r0,
        .r1 = at->r1,
        .rows = at->rows,
        .batch_sizes = at->batch_sizes,
        .reduction = at->reduction == REDUCE_ROWS ? REDUCE_ROWS : REDUCE_STEP,
    };
}
INLINE field later(const field *f, int64_t steps) {
    return (field){
        .p = (real *)f->p + steps * f->step,
        .step = f->step,
        .block = f->block,
        .row = f->row,
    };
}

/* The field whose chunk t is the input projection of step t. */
INLINE field inputs_at(const frame *f, int64_t t) {
    if (!f->phases) return f->zx;
    const field shared = {
        .p = (real *)f->zx.p + t / f->phases * f->zx.row,
        .step = f->zx.step,
        .block = f->zx.block,
        .row = f->zx.row,
    };
    return later(&shared, t % f->phases - t);
}

/* For products outside the loop over time: the steps of a single sequence (REDUCE_SEQUENCE) are the
   rows, of one step.  One step of it (REDUCE_STEP) is a row by itself, summed by row_product. */
INLINE span rows_span(const span *steps) {
    if (steps->reduction != REDUCE_SEQUENCE) return *steps;
    return (span){
        .t1 = 1,
        .r1 = steps->r1 > steps->r0 ? steps->t1 - steps->t0 : 0,
        .reduction = REDUCE_SEQUENCE,
    };
}
/* The field as rows_span sees it; f may be NULL. */
INLINE field rows_field(const field *f, const span *steps) {
    if (!f) return (field){ 0 };
    if (steps->reduction != REDUCE_SEQUENCE || !f->p) return *f;
    return (field){
        .p = (real *)f->p + steps->t0 * f->step,
        .block = f->block,
        .row = f->step,
    };
}

/* -- the micro-kernel -- */

/* mr rows by nv vectors of columns:
   out(i, v) = bias(v) + start(i, v) + sum over k of a(i, k) w(k, v).
   k runs over (block of units, gate, lane), real units only.  Products BY_ROWS, of which a layer has
   few columns, are few_inputs and few_columns_product. */
typedef struct {
    int64_t units;
    int64_t gates;
    /* of a: from one row to the next, from one block of columns to the next */
    int64_t row;
    int64_t block;
    /* of start, of out: the same */
    int64_t start_row;
    int64_t start_block;
    int64_t out_row;
    int64_t out_block;
} operands;

/* w: nv vectors for each k, contiguous.  bias and start may be NULL. */
typedef void product(const operands *, const real *a, const real *w, const real *bias,
                     const real *start, real *out);

/* acc(i, v) += a(i) w(v): one k of a tile. */
INLINE void tile_step(const int mr, const int nv, const int64_t row, const real *a, const real *w,
                      V acc[][PANEL_MAX]) {
    if (mr < nv) { /* the shorter side stays in registers: 3x4 fits into 16 */
        V x[HEIGHT_MAX];
        UNROLL_FOR (int i = 0; i < mr; i++) x[i] = v_set(a[i * row]);
        UNROLL_FOR (int v = 0; v < nv; v++) {
            const V b = v_load(w + v * VL);
            UNROLL_FOR (int i = 0; i < mr; i++) acc[i][v] += x[i] * b;
        }
        return;
    }
    V b[PANEL_MAX];
    UNROLL_FOR (int v = 0; v < nv; v++) b[v] = v_load(w + v * VL);
    UNROLL_FOR (int i = 0; i < mr; i++) {
        const V x = v_set(a[i * row]);
        UNROLL_FOR (int v = 0; v < nv; v++) acc[i][v] += x * b[v];
    }
}

/* `row` is o->row, or VL as a constant.  Each shape is a function of its own, so that the registers
   hold its sums and nothing else.  A block of units is unrolled: the end of a loop over its few k
   costs a fifth of the time. */
INLINE void tile_product(const int mr, const int nv, const int64_t row, const operands *o,
                         const real *a, const real *w, const real *bias, const real *start,
                         real *out) {
    V acc[HEIGHT_MAX][PANEL_MAX];
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int v = 0; v < nv; v++) {
            acc[i][v] = bias ? v_load(bias + v * VL) : v_set(0);
            if (start) acc[i][v] += v_load(start + i * o->start_row + v * o->start_block);
        }
    const int64_t left = o->units % VL;
    for (int64_t n = o->units / VL * o->gates; n > 0; n--, a += o->block, w += VL * nv * VL)
        UNROLL_FOR (int j = 0; j < VL; j++) tile_step(mr, nv, row, a + j, w + j * nv * VL, acc);
    for (int64_t g = 0; left && g < o->gates; g++, a += o->block)
        for (int64_t j = 0; j < left; j++, w += nv * VL) tile_step(mr, nv, row, a + j, w, acc);
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int v = 0; v < nv; v++)
            v_store(out + i * o->out_row + v * o->out_block, acc[i][v]);
}

/* The shapes: for a panel of nv vectors the heights that the registers hold, tallest first.  Rows
   that lie far apart (the steps of a single sequence) need an address each.  TALL and TALL_FAR are
   macros because tables are initialised with them. */
#define EACH_HEIGHT(X, nv) X(12, nv) X(8, nv) X(6, nv) X(4, nv) X(3, nv) X(2, nv) X(1, nv)
#define EACH_SHAPE(X) EACH_HEIGHT(X, 1) EACH_HEIGHT(X, 2) EACH_HEIGHT(X, 3) EACH_HEIGHT(X, 4)
#define TALL(nv) ((nv) == 1 ? (TILE > 12 ? 12 : 8) : TILE / (nv))
#define TALL_FAR(nv) ((nv) == 1 ? (TILE > 12 ? 8 : 4) : (nv) == 4 && TILE <= 12 ? 3 : 4)
#define PRODUCT(mr, nv)                                                                   \
    static void product_##mr##x##nv(const operands *o, const real *a, const real *w,      \
                                    const real *bias, const real *start, real *out) {     \
        tile_product(mr, nv, VL, o, a, w, bias, start, out);                              \
    }                                                                                     \
    static void product_far_##mr##x##nv(const operands *o, const real *a, const real *w,  \
                                        const real *bias, const real *start, real *out) { \
        tile_product(mr, nv, o->row, o, a, w, bias, start, out);                          \
    }
EACH_SHAPE(PRODUCT)
#define NEAR_ENTRY(mr, nv) [nv][mr] = (mr) <= TALL(nv) ? product_##mr##x##nv : NULL,
#define FAR_ENTRY(mr, nv) [nv][mr] = (mr) <= TALL_FAR(nv) ? product_far_##mr##x##nv : NULL,
static product *const near_products[PANEL_MAX + 1][HEIGHT_MAX + 1] = { EACH_SHAPE(NEAR_ENTRY) };
static product *const far_products[PANEL_MAX + 1][HEIGHT_MAX + 1] = { EACH_SHAPE(FAR_ENTRY) };

/* The height of the next tile of `left` rows: the tallest, unless it would leave a few rows that
   two tiles of middling height take faster. */
INLINE int64_t tile_height(int64_t limit, int64_t left) {
    static const int8_t heights[] = { 12, 8, 6, 4, 3, 2, 1 };
    const int in_two = left > limit && left < limit + 4 && limit > 4;
    const int64_t at_most = in_two ? (left + 1) / 2 : left < limit ? left : limit;
    int n = 0;
    while (heights[n] > at_most) n++;
    return heights[n];
}

/* A panel larger than the nearest cache is multiplied slice by slice: bytes of a slice, which stay
   in that cache while all tiles of some rows read them; how many rows; and how many panels, at most,
   of which the slices take turns, so that they read what the rows have from the second cache.
   Larger tiles read their panels from the second cache fast enough, but not these rows from the
   third: ROWS_BYTES of them the second one holds.  While a slice is multiplied, the next one is
   prefetched. */
enum {
    WHOLE_BYTES = 48 << 10,
    ROWS_BYTES = 768 << 10,
    SLICE_BYTES = (TILE > 12 ? 32 : 16) << 10,
    SLICE_ROWS = 128,
    SLICE_PANELS = 4
};

/* Units of a slice of so many panels of nv vectors; all, if they are not to be sliced. */
INLINE int64_t slice_units(int64_t units, int64_t gates, int64_t nv, int64_t panels, int64_t tall,
                           int64_t rows) {
    const int64_t depth = units * gates, bytes = nv * VBYTES * gates; /* of a unit */
    const int fits = TILE <= 12 ? nv * VBYTES * depth <= WHOLE_BYTES
                                : panels == 1 || rows * depth * (int64_t)sizeof(real) <= ROWS_BYTES;
    if (rows <= tall || fits) return units;
    return max64(SLICE_BYTES / bytes / VL, 1) * VL;
}

/* Prefetches a part of a slice of `size` reals, in proportion to rows [r0, r1) of `rows`: after the last
   tile the whole slice has been asked for. */
INLINE void prefetch_part(const real *slice, int64_t size, int64_t r0, int64_t r1, int64_t rows) {
    enum { LINE = 64 / sizeof(real) };
    for (int64_t i = size * r0 / rows / LINE * LINE; i < size * r1 / rows; i += LINE)
        __builtin_prefetch(slice + i);
}

/* The products of some panels of nv vectors, `apart` reals from each other, and some rows, tile by
   tile, in the shapes given; slice by slice of at most `units` units, each adding to what the one
   before left.  A panel's outputs lie out_apart reals after those of the one before; only a single
   one has a bias or a start.  The order of the sums is that of a single slice. */
static NOINLINE void sliced_product(product *const *shape, int64_t tall, const operands *o,
                                    int64_t nv, int64_t units, int64_t panels, int64_t apart,
                                    int64_t out_apart, int64_t rows, const real *a, const real *w,
                                    const real *bias, const real *start, real *out) {
    operands slice = *o;
    for (int64_t u = 0; u < o->units; u += units) {
        slice.units = min64(units, o->units - u);
        for (int64_t p = 0; p < panels; p++) {
            const real *before = start ? start + p * out_apart : NULL;
            const int64_t size = slice.units * o->gates * nv * VL;
            const real *next = p + 1 < panels ? w + (p + 1) * apart : w + size;
            for (int64_t i = 0, height; i < rows; i += height) {
                height = tile_height(tall, rows - i);
                if (TILE <= 12 && units < o->units) prefetch_part(next, size, i, i + height, rows);
                shape[height](&slice, a + i * o->row, w + p * apart, bias,
                              before ? before + i * slice.start_row : NULL,
                              out + p * out_apart + i * o->out_row);
            }
        }
        a += units / VL * o->gates * o->block;
        w += units * o->gates * nv * VL;
        bias = NULL;
        start = out;
        slice.start_row = o->out_row;
        slice.start_block = o->out_block;
    }
}

/* part[v] += a[0] w[v]: one k of row_product. */
INLINE void row_step(const int nv, const int panels, int64_t apart, const real *a, const real *w,
                     V part[PANEL_MAX]) {
    const V x = v_set(*a);
    UNROLL_FOR (int v = 0; v < nv * panels; v++)
        part[v] = v_fma(x, v_load(w + v / nv * apart + v % nv * VL), part[v]);
}

/* The product of a single row, acc[0] += a W, for `panels` panels of nv vectors that lie `apart`
   reals from each other: four partial sums over k modulo 4, since one sum would wait for the
   latency of the FMA.
   from_end: k downwards (blocks must be whole).  Weights a little larger than the nearest cache,
   read over and over in the same order, are never there when they are wanted; read to and fro,
   most of them are. */
INLINE void row_product(const int nv, const int panels, int64_t apart, int64_t units, int64_t gates,
                        const real *a, int64_t block, const real *w, int from_end,
                        V acc[][PANEL_MAX]) {
    V part[4][PANEL_MAX];
    UNROLL_FOR (int q = 0; q < 4; q++)
        UNROLL_FOR (int v = 0; v < nv * panels; v++) part[q][v] = v_set(0);
    if (from_end) {
        const int64_t count = units / VL * gates;
        a += (count - 1) * block;
        w += (count * VL - 4) * nv * VL;
        for (int64_t n = 0; n < count; n++, a -= block)
            for (int64_t j = VL - 4; j >= 0; j -= 4, w -= 4 * nv * VL)
                UNROLL_FOR (int q = 0; q < 4; q++)
                    row_step(nv, panels, apart, a + j + q, w + q * nv * VL, part[q]);
    } else {
        for (int64_t u = 0; u < units; u += VL) {
            const int64_t n = min64(VL, units - u);
            for (int64_t g = 0; g < gates; g++, a += block) {
                int64_t j = 0;
                for (; j + 4 <= n; j += 4, w += 4 * nv * VL)
                    UNROLL_FOR (int q = 0; q < 4; q++)
                        row_step(nv, panels, apart, a + j + q, w + q * nv * VL, part[q]);
                for (int64_t left = n & 3; left; left--, j++, w += nv * VL)
                    row_step(nv, panels, apart, a + j, w, part[0]);
            }
        }
    }
    UNROLL_FOR (int v = 0; v < nv * panels; v++)
        acc[0][v] += (part[0][v] + part[1][v]) + (part[2][v] + part[3][v]);
}

/* BY_ROWS: acc += a W for mr vectors of rows and nv columns; W has few of them.  The order of the sums
   is that of tile_product.  gates: a factor of the depth. */
INLINE void few_columns_product(const int mr, const int nv, const int gates, int64_t depth,
                                const real *a, int64_t block, const real *w, V acc[][PANEL_MAX]) {
    for (int64_t k = 0; k < depth; k += gates)
        UNROLL_FOR (int g = 0; g < gates; g++, a += block, w += nv) {
            V x[HEIGHT_MAX];
            UNROLL_FOR (int i = 0; i < mr; i++) x[i] = v_load(a + i * VL);
            UNROLL_FOR (int v = 0; v < nv; v++) {
                const V b = v_set(w[v]);
                UNROLL_FOR (int i = 0; i < mr; i++) acc[i][v] += x[i] * b;
            }
        }
}

/* -- y = x W' + b, and its backward pass -- */

/* One panel of nv vectors for a single row: out = bias + start + a W. */
INLINE void row_panel_product(const operands *o, int64_t nv, const real *a, const real *w,
                              const real *bias, const real *start, real *out) {
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
}

/* One panel of nv vectors for so many vectors of rows: out = bias + start + a W.  single:
   row_product sums the one row. */
INLINE void panel_product(const operands *o, int64_t nv, int64_t vectors, int single, const real *a,
                          const real *w, const real *bias, const real *start, real *out) {
    if (single) {
        row_panel_product(o, nv, a, w, bias, start, out);
        return;
    }
    const int near = o->row == VL;
    product *const *shape = (near ? near_products : far_products)[nv];
    const int64_t tall = near ? TALL(nv) : TALL_FAR(nv);
    const int64_t slice = slice_units(o->units, o->gates, nv, 1, tall, vectors);
    sliced_product(shape, tall, o, nv, slice, 1, 0, 0, vectors, a, w, bias, start, out);
}

/* A field without its first n blocks of columns. */
INLINE field from_column(const field *f, int64_t n) {
    return (field){ chunk(f, 0, 0, n), f->step, f->block, f->row };
}

/* BY_ROWS: y = start + x W' + bias for `depth` inputs, which the registers hold, and all columns, rows
   and steps of a span; bias and start may be NULL.  The order of the sums is that of tile_product. */
typedef struct {
    const field *x;
    const field *start;
    const field *y;
    const span *at;
    /* panels of `width` columns, (inputs, width) each; x begins with input `first` */
    const real *weights;
    const real *bias;
    int64_t columns;
    int64_t width;
    int64_t inputs;
    int64_t first;
} few_inputs;
/* Some columns of it: their weights, of the four inputs at most, and biases. */
enum { SOME_COLUMNS = 16 };
typedef struct {
    int64_t count;
    real weight[SOME_COLUMNS][4];
    real bias[SOME_COLUMNS];
} some_columns;
static NOINLINE void find_columns(some_columns *some, int depth, const few_inputs *of, int64_t n) {
    some->count = min64(SOME_COLUMNS, of->columns - n);
    for (int64_t c = 0; c < some->count; c++) {
        const int64_t panel = (n + c) / of->width * of->width;
        const int64_t nv = min64(of->width, of->columns - panel);
        const real *w = of->weights + panel * of->inputs + of->first * nv + n + c - panel;
        for (int k = 0; k < depth; k++) some->weight[c][k] = w[k * nv];
        some->bias[c] = of->bias ? of->bias[n + c] : 0;
    }
}
/* mr vectors of rows: x, start (or NULL) and y are those of the first. */
INLINE void vectors_of_few_inputs(const int mr, const int depth, const some_columns *some,
                                  const real *x, const real *start, real *y, int64_t x_block,
                                  int64_t y_block, const VI *lanes) {
    V in[2][4];
    UNROLL_FOR (int i = 0; i < mr; i++)
        UNROLL_FOR (int k = 0; k < depth; k++) in[i][k] = v_load(x + i * VL + k * x_block);
    for (int64_t c = 0, at = 0; c < some->count; c++, at += y_block) {
        V acc[2];
        UNROLL_FOR (int i = 0; i < mr; i++) {
            acc[i] = v_set(some->bias[c]);
            if (start) acc[i] += v_load(start + i * VL + at);
        }
        UNROLL_FOR (int k = 0; k < depth; k++)
            UNROLL_FOR (int i = 0; i < mr; i++) acc[i] += in[i][k] * v_set(some->weight[c][k]);
        UNROLL_FOR (int i = 0; i < mr; i++) v_store_lanes(y + i * VL + at, acc[i], lanes);
    }
}
INLINE void span_of_few_inputs(const int depth, const few_inputs *of) {
    const field x = *of->x;
    some_columns some;
    for (int64_t n = 0; n < of->columns; n += SOME_COLUMNS) {
        const field start = from_column(of->start, n), y = from_column(of->y, n);
        find_columns(&some, depth, of, n);
        for (int64_t t = of->at->t0, next; t < of->at->t1; t = next) {
            const int64_t end = last_padded_row(of->at, t);
            next = same_rows_end(of->at, t);
            for (row_part part = first_part(of->at->r0, end); part.vectors > 0;
                 part = next_part(&part, end)) {
                const VI *lanes = lanes_of(&part);
                const real *in = chunk(&x, t, part.r, 0), *first = chunk(&start, t, part.r, 0);
                real *out = chunk(&y, t, part.r, 0);
                for (int64_t n = t; n < next; n++, in += x.step, out += y.step) {
                    int64_t i = 0;
                    for (; i + 2 * VL <= part.vectors * VL; i += 2 * VL)
                        vectors_of_few_inputs(2, depth, &some, in + i, first ? first + i : NULL,
                                              out + i, x.block, y.block, lanes);
                    if (i < part.vectors * VL)
                        vectors_of_few_inputs(1, depth, &some, in + i, first ? first + i : NULL,
                                              out + i, x.block, y.block, lanes);
                    if (first) first += start.step;
                }
            }
        }
    }
}
static void one_input(const few_inputs *of) { span_of_few_inputs(1, of); }
static void two_inputs(const few_inputs *of) { span_of_few_inputs(2, of); }
static void three_inputs(const few_inputs *of) { span_of_few_inputs(3, of); }
static void four_inputs(const few_inputs *of) { span_of_few_inputs(4, of); }

/* The same for any number of inputs: what four of them give is the start of the next four. */
INLINE void rows_product(few_inputs of, int64_t depth) {
    static void (*const product[])(const few_inputs *) = { one_input, two_inputs, three_inputs,
                                                           four_inputs };
    const field x = *of.x;
    for (int64_t k = 0; k < depth; k += 4) {
        const field inputs = from_column(&x, k);
        of.x = &inputs;
        product[min64(4, depth - k) - 1](&of);
        of.first += 4;
        of.bias = NULL;
        of.start = of.y;
    }
}

/* -- column groups -- */

/* The inputs of a column group that are numbers, and whether it has integers, too: the last one may
   have. */
INLINE int64_t columns_of(const matrix *m, int64_t group) {
    return group + 1 < m->column_groups ? m->K : m->last;
}
INLINE int has_choices(const matrix *m, int64_t group) {
    return m->choices && group + 1 == m->column_groups;
}

/* -- integer inputs: the columns of W, or of a table of products, that they choose -- */

/* What integer q of a row x chooses, whose blocks are `block` reals apart: a value, or its row
   of the table.  A number that is none of its values counts as 0. */
INLINE int64_t chosen_value(const matrix *m, const real *x, int64_t block, int64_t q) {
    const int64_t c = m->last + q;
    const real value = x[c / CL * block + c % CL];
    const int is_valid = value >= 0 && value < (real)m->lookup[q].values;
    const int64_t chosen = is_valid ? (int64_t)value : 0;
    return m->lookup[q].slot ? m->lookup[q].slot[chosen] : chosen;
}

/* Vectors [n, n + nv) of it, in a panel of nv vectors of W or, with an embedding, in the table;
   *apart: reals from one vector to the next. */
INLINE real *chosen_vectors(const int nv, const lookup *l, int64_t value, real *panel,
                            const field *table, int64_t n, int64_t *apart) {
    *apart = table->p ? table->block : CL;
    return table->p ? chunk(table, 0, value, n) : panel + (l->first + value) * nv * CL;
}

/* What a panel of nv vectors, the first of which is n, does with them: of y += the chosen columns, or
   y = bias + these where there are no other inputs; of the gradient += the rows of dz that chose them. */
INLINE void add_chosen_to(const int nv, const matrix *m, const real *panel, const real *bias,
                          const field *x, const field *y, int64_t n, const span *at) {
    for (int64_t t = at->t0; t < at->t1; t++)
        for (int64_t r = at->r0; r < last_row(at, t); r++)
            for (int64_t q = 0; q < m->choices; q++) {
                const lookup *l = &m->lookup[q];
                const int64_t value = chosen_value(m, chunk(x, t, r, 0), x->block, q);
                int64_t apart;
                const real *w = chosen_vectors(nv, l, value, (real *)panel, &l->table, n, &apart);
                real *out = chunk(y, t, r, n);
                UNROLL_FOR (int v = 0; v < nv; v++) {
                    const V sum = v_load(m->last + q ? out + v * y->block : bias + v * CL);
                    v_store(out + v * y->block, sum + v_load(w + v * apart));
                }
            }
}
INLINE void collect_chosen_of(const int nv, const matrix *m, const field *x, const field *dz,
                              int64_t n, real *panel, const span *at) {
    for (int64_t t = at->t0; t < at->t1; t++)
        for (int64_t r = at->r0; r < last_row(at, t); r++)
            for (int64_t q = 0; q < m->choices; q++) {
                const lookup *l = &m->lookup[q];
                const int64_t value = chosen_value(m, chunk(x, t, r, 0), x->block, q);
                const real *d = chunk(dz, t, r, n);
                int64_t apart;
                real *sum = chosen_vectors(nv, l, value, panel, &l->table_grads, n, &apart);
                UNROLL_FOR (int v = 0; v < nv; v++)
                    v_store(sum + v * apart, v_load(sum + v * apart) + v_load(d + v * dz->block));
            }
}

/* By panels, of which the columns, y and dz stay in the cache.  Gradients in the order of steps and
   rows; all threads call it, each for its share of the panels. */
static void add_chosen_columns(const matrix *m, const void *packed, const matrix *bias,
                               const field *x, const field *y, const span *at) {
    for (int64_t n = 0; n < m->vectors; n += m->width) {
        const real *panel = (const real *)packed + m->packed + n * m->cols * CL;
        const real *b = (const real *)packed + bias->packed + n * CL;
        switch (min64(m->width, m->vectors - n)) {
        case 1: add_chosen_to(1, m, panel, b, x, y, n, at); break;
        case 2: add_chosen_to(2, m, panel, b, x, y, n, at); break;
        case 3: add_chosen_to(3, m, panel, b, x, y, n, at); break;
        case 4: add_chosen_to(4, m, panel, b, x, y, n, at); break;
        }
    }
}
static void collect_chosen_columns(const matrix *m, const field *x, const field *dz, void *grad,
                                   int add, const span *at, int64_t part, int64_t parts) {
    const int64_t panels = (m->vectors + m->width - 1) / m->width;
    const int64_t last = share(panels, part + 1, parts);
    for (int64_t i = share(panels, part, parts); i < last; i++) {
        const int64_t n = i * m->width, nv = min64(m->width, m->vectors - n);
        real *panel = (real *)grad + m->packed + n * m->cols * CL;
        for (int64_t k = m->lookup[0].first * nv; !add && k < m->cols * nv; k++)
            v_store(panel + k * CL, v_set(0));
        switch (nv) {
        case 1: collect_chosen_of(1, m, x, dz, n, panel, at); break;
        case 2: collect_chosen_of(2, m, x, dz, n, panel, at); break;
        case 3: collect_chosen_of(3, m, x, dz, n, panel, at); break;
        case 4: collect_chosen_of(4, m, x, dz, n, panel, at); break;
        }
    }
}

/* y = act(add + x W' + bias), W being column group `group` of the matrix.  Shapes per step: x
   (rows, K), add and y (rows, gates*units).  addend may be outputs; bias and addend may be NULL. */
static void NAME(forward)(const matrix *m, const void *packed, const matrix *bias, int64_t group,
                          int act, const field *inputs, const field *addend, const field *outputs,
                          const span *steps) {
    const span at = rows_span(steps);
    const field x = rows_field(inputs, steps);
    const field add = rows_field(addend, steps);
    const field y = rows_field(outputs, steps);
    const real *weights = (const real *)packed + m->packed;
    const real *biases = bias ? (const real *)packed + bias->packed : NULL;
    const int64_t columns = columns_of(m, group);
    const operands o = {
        .units = columns,
        .gates = 1,
        .row = RL * x.row,
        .block = x.block,
        .start_row = RL * add.row,
        .start_block = add.block,
        .out_row = RL * y.row,
        .out_block = y.block,
    };
    if (BY_ROWS) {
        const few_inputs of = {
            .x = &x,
            .start = &add,
            .y = &y,
            .at = &at,
            .weights = weights,
            .bias = biases,
            .columns = m->vectors,
            .width = m->width,
            .inputs = m->cols,
            .first = group * m->K,
        };
        rows_product(of, columns);
        if (act == ACT_LINEAR) return;
    }
    for (int64_t t = at.t0; t < at.t1; t++) {
        const int64_t end = last_padded_row(&at, t);
        for (row_part of = first_part(at.r0, end); of.vectors > 0; of = next_part(&of, end)) {
            const VI *lanes = lanes_of(&of);
            for (int64_t n = 0; n < m->vectors; n += m->width) {
                const int64_t nv = min64(m->width, m->vectors - n);
                real *out = chunk(&y, t, of.r, n);
                if (!BY_ROWS)
                    panel_product(&o, nv, of.vectors, at.reduction == REDUCE_STEP,
                                  chunk(&x, t, of.r, 0),
                                  weights + (n * m->cols + (m->before + group * m->K) * nv) * CL,
                                  biases ? biases + n * CL : NULL, chunk(&add, t, of.r, n), out);
                if (act == ACT_LINEAR) continue;
                for (int v = 0; v < nv; v++) {
                    real *value = out + v * y.block;
                    for (int64_t i = 0; i < of.vectors; i++, value += RL * y.row)
                        v_store_lanes(value, v_act(act, v_load(value)), lanes);
                }
            }
        }
    }
    if (!BY_ROWS && has_choices(m, group)) add_chosen_columns(m, packed, bias, &x, &y, &at);
}

/* dx = (dz W) . act'(a), or added to what dx holds, W being a column group of the matrix.  Shapes
   per step: dz (rows, gates*units), dx and a (rows, columns of the group).  values (a) may be NULL. */
static void NAME(backward)(const matrix *m, int64_t group, const field *output_grads,
                           const field *input_grads, int add, int act, const field *values,
                           const span *steps) {
    const span at = rows_span(steps);
    const field dz = rows_field(output_grads, steps);
    const field dx = rows_field(input_grads, steps);
    const field a = rows_field(values, steps);
    const int64_t vectors = blocks_of(columns_of(m, group)), first = group * blocks_of(m->K);
    const int64_t depth = m->gates * m->units;
    const operands o = {
        .units = m->units,
        .gates = m->gates,
        .row = RL * dz.row,
        .block = dz.block,
        .start_row = RL * dx.row,
        .start_block = dx.block,
        .out_row = RL * dx.row,
        .out_block = dx.block,
    };
    if (BY_ROWS) {
        const field none = { 0 };
        const few_inputs of = {
            .x = &dz,
            .start = add ? &dx : &none,
            .y = &dx,
            .at = &at,
            .weights = (const real *)m->transposed + first * depth,
            .columns = vectors,
            .width = 2,
            .inputs = depth,
        };
        rows_product(of, depth);
        if (!values) return;
    }
    for (int64_t t = at.t0; t < at.t1; t++) {
        const int64_t end = last_padded_row(&at, t);
        for (row_part of = first_part(at.r0, end); of.vectors > 0; of = next_part(&of, end)) {
            const VI *lanes = lanes_of(&of);
            for (int64_t n = 0; n < vectors; n += 2) {
                const int64_t nv = min64(2, vectors - n);
                const real *w = (const real *)m->transposed + (first + n) * CL * depth;
                real *out = chunk(&dx, t, of.r, n);
                if (!BY_ROWS)
                    panel_product(&o, nv, of.vectors, at.reduction == REDUCE_STEP,
                                  chunk(&dz, t, of.r, 0), w, NULL, add ? out : NULL, out);
                if (!values) continue;
                for (int v = 0; v < nv; v++) {
                    const real *value = chunk(&a, t, of.r, n + v);
                    real *slope = out + v * dx.block;
                    for (int64_t i = 0; i < of.vectors;
                         i++, slope += RL * dx.row, value += RL * a.row)
                        v_store_lanes(slope, v_load(slope) * v_dact(act, v_load(value)), lanes);
                }
            }
        }
    }
    /* integers have no gradient */
    const int64_t end = has_choices(m, group) ? blocks_of(m->last + m->choices) : 0;
    for (int64_t n = vectors; n < end; n++)
        for (int64_t t = at.t0; t < at.t1; t++)
            for (int64_t r = at.r0; r < last_row(&at, t); r++)
                v_store(chunk(&dx, t, r, n), v_set(0));
}

/* -- weight gradients: dW' (columns, vectors) = sum over all rows of x' dz, in the layout of the
      packed weights.  A tile is mr columns of x by nv vectors of dz, of one panel or of two.  Steps
      are taken in groups that stay in the cache; a group adds to what the last one left. -- */
enum { COLLECT_ROWS = 128 * RL, COLLECT_COLUMNS = 256, COLLECT_WIDE = 3 };
/* The heights: as many sums as the registers hold.  Threads share the columns in units of whole
   blocks and tiles. */
enum { COLLECT_UNIT = 16 };
#define COLLECT_HIGH(nv) (TILE > 12 || ((nv) == 1 && !BY_ROWS) ? 8 : 4)
/* The gradient of a tile: that of each vector for its first column, and reals from one column to
   the next. */
typedef struct {
    real *p[PANEL_MAX];
    int64_t stride[PANEL_MAX];
} tile_gradient;
/* x: the first of mr columns, in chunk 0 of its field; dz: the first of nv vectors, likewise;
   add: to what the gradient holds.  A tile begins with a block of columns of x, or lies in one. */
typedef void collector(const field *x_field, const real *x, const field *dz_field, const real *dz,
                       const span *at, const tile_gradient *grad, int add);

/* The sums of a tile into the gradient.  BY_ROWS in a loop: the sums over the lanes are long. */
INLINE void add_sums(const int mr, const int nv, V acc[][PANEL_MAX], const tile_gradient *grad,
                     int add) {
    V sums[HEIGHT_MAX * PANEL_MAX];
    UNROLL_FOR (int v = 0; v < nv; v++)
        UNROLL_FOR (int i = 0; i < mr; i++) {
            real *g = grad->p[v] + i * grad->stride[v];
            if (BY_ROWS)
                sums[i * nv + v] = acc[i][v];
            else
                v_store(g, add ? v_load(g) + acc[i][v] : acc[i][v]);
        }
    for (int n = 0; BY_ROWS && n < mr * nv; n++) {
        real *g = grad->p[n % nv] + n / nv * grad->stride[n % nv];
        const W sum = w_sum_rows(sums[n]);
        w_store(g, add ? w_load(g) + sum : sum);
    }
}

/* acc(i, v) += x(i) d(v): a vector of rows of a tile, `from` reals after a and after each of d. */
INLINE void collect_step(const int mr, const int nv, const real *a, int64_t block, const real *d[],
                         int64_t from, const VI *lanes, V acc[][PANEL_MAX]) {
    V z[PANEL_MAX];
    UNROLL_FOR (int v = 0; v < nv; v++) z[v] = v_load_lanes(d[v] + from, lanes);
    UNROLL_FOR (int i = 0; i < mr; i++) {
        const real *x = a + i / CL * block + i % CL + from;
        const V input = BY_ROWS ? v_load_lanes(x, lanes) : v_set(*x);
        UNROLL_FOR (int v = 0; v < nv; v++) acc[i][v] += input * z[v];
    }
}

INLINE void tile_collect(const int mr, const int nv, const field *x_field, const real *x,
                         const field *dz_field, const real *dz, const span *at,
                         const tile_gradient *grad, int add) {
    enum { AT_ONCE = 4 }; /* rows in straight-line code */
    V acc[HEIGHT_MAX][PANEL_MAX];
    UNROLL_FOR (int v = 0; v < nv; v++)
        UNROLL_FOR (int i = 0; i < mr; i++) {
            acc[i][v] = v_set(0);
            __builtin_prefetch(grad->p[v] + i * grad->stride[v], 1);
        }
    const int64_t x_row = RL * row_of(x_field), z_row = RL * row_of(dz_field);
    const int near = !BY_ROWS && x_row == VL && z_row == VL;
    for (int64_t t = at->t0, next; t < at->t1; t = next) {
        const int64_t end = last_row(at, t);
        next = same_rows_end(at, t);
        for (row_part of = first_part(at->r0, end); of.vectors > 0; of = next_part(&of, end)) {
            const VI *lanes = lanes_of(&of);
            for (int64_t i = t; i < next; i++) {
                const real *a = x + i * x_field->step + of.r / RL * x_row, *d[PANEL_MAX];
                int64_t n = 0;
                UNROLL_FOR (int v = 0; v < nv; v++) {
                    d[v] = dz + i * dz_field->step + of.r / RL * z_row + v * dz_field->block;
                    __asm__("" : "+r"(d[v])); /* addresses without an index cost less */
                }
                for (; near && n + AT_ONCE <= of.vectors; n += AT_ONCE, a += AT_ONCE * VL) {
                    UNROLL_FOR (int j = 0; j < AT_ONCE; j++)
                        collect_step(mr, nv, a, x_field->block, d, j * VL, lanes, acc);
                    UNROLL_FOR (int v = 0; v < nv; v++) d[v] += AT_ONCE * VL;
                }
                for (; n < of.vectors; n++, a += x_row) {
                    __builtin_prefetch(a + 8 * x_row);
                    collect_step(mr, nv, a, x_field->block, d, 0, lanes, acc);
                    UNROLL_FOR (int v = 0; v < nv; v++) d[v] += z_row;
                }
            }
        }
    }
    add_sums(mr, nv, acc, grad, add);
}
#define COLLECTOR(mr, nv)                                                                       \
    static void collect_##mr##x##nv(const field *x_field, const real *x, const field *dz_field, \
                                    const real *dz, const span *at, const tile_gradient *grad,  \
                                    int add) {                                                  \
        tile_collect(mr, nv, x_field, x, dz_field, dz, at, grad, add);                          \
    }
EACH_SHAPE(COLLECTOR)
/* Four vectors: for the chain rule of curvature.h. */
#define COLLECTED(mr, nv) ((nv) <= COLLECT_WIDE ? (mr) <= COLLECT_HIGH(nv) : (mr) == 1 && !BY_ROWS)
#define COLLECT_ENTRY(mr, nv) [nv][mr] = COLLECTED(mr, nv) ? collect_##mr##x##nv : NULL,
static collector *const collectors[PANEL_MAX + 1][HEIGHT_MAX + 1] = { EACH_SHAPE(COLLECT_ENTRY) };

/* The tiles of `columns` columns of x and `wide` vectors of dz. */
INLINE void panel_collect(const field *x, const real *first, int64_t columns, const field *dz,
                          const real *panel, int64_t wide, const span *at, tile_gradient grad,
                          int add) {
    for (int64_t i = 0, height; i < columns; i += height) {
        height = tile_height(COLLECT_HIGH(wide), min64(COLLECT_HIGH(wide), columns - i));
        collectors[wide][height](x, first + i / CL * x->block + i % CL, dz, panel, at, &grad, add);
        for (int64_t v = 0; v < wide; v++) grad.p[v] += height * grad.stride[v];
    }
}

/* Vector n of a packed matrix, for column 0; *stride: reals from one column to the next. */
INLINE real *packed_vector(const matrix *m, void *packed, int64_t n, int64_t *stride) {
    const int64_t first = n / m->width * m->width; /* of its panel */
    *stride = min64(m->width, m->vectors - first) * CL;
    return (real *)packed + m->packed + (first * m->cols + n - first) * CL;
}

/* dW of column group `group`, over all rows of the span.  All threads call it: they share the
   vectors of dz, or the columns of x where there are more units of them. */
static void NAME(collect)(const matrix *m, int64_t group, const field *inputs,
                          const field *output_grads, void *grad, int add, const span *steps,
                          int64_t part, int64_t parts) {
    const span all = rows_span(steps);
    const field x = rows_field(inputs, steps);
    const field dz = rows_field(output_grads, steps);
    const int64_t K = columns_of(m, group);
    int64_t first = 0, last = m->vectors; /* vectors of dz */
    int64_t c0 = 0, c1 = K; /* columns of x */
    if (parts > 1) {
        const int64_t tiles = (m->vectors + COLLECT_WIDE - 1) / COLLECT_WIDE;
        const int64_t units = (K + COLLECT_UNIT - 1) / COLLECT_UNIT;
        if (tiles >= units) {
            first = share(m->vectors, part, parts);
            last = share(m->vectors, part + 1, parts);
        } else {
            c0 = units * part / parts * COLLECT_UNIT;
            c1 = min64(K, units * (part + 1) / parts * COLLECT_UNIT);
        }
    }
    if (!BY_ROWS && has_choices(m, group))
        collect_chosen_columns(m, &x, &dz, grad, add, &all, part, parts);
    const int64_t at_once = max64(1, COLLECT_ROWS / max64(1, all.r1 - all.r0));
    const int64_t steps_once = all.t1 - all.t0 == 1 ? 1 : at_once;
    for (int64_t t = all.t0; t < all.t1; t += steps_once)
        for (int64_t r = all.r0; r < all.r1; r += COLLECT_ROWS, add = 1) {
            const span at = {
                .t0 = t,
                .t1 = min64(all.t1, t + steps_once),
                .r0 = r,
                .r1 = min64(all.r1, r + COLLECT_ROWS),
                .batch_sizes = all.batch_sizes,
                .reduction = all.reduction,
            };
            for (int64_t c = c0; c < c1; c += COLLECT_COLUMNS)
                for (int64_t n = first, wide; n < last; n += wide) {
                    const int64_t column = m->before + group * m->K + c;
                    tile_gradient place;
                    wide = min64(COLLECT_WIDE, last - n);
                    for (int64_t v = 0; v < wide; v++) {
                        real *g = packed_vector(m, grad, n + v, &place.stride[v]);
                        place.p[v] = g + column * place.stride[v];
                    }
                    panel_collect(&x, chunk(&x, 0, 0, c / CL), min64(COLLECT_COLUMNS, c1 - c), &dz,
                                  chunk(&dz, 0, 0, n), wide, &at, place, add);
                }
        }
}

/* Adds dz of all rows to sums: of one vector of columns to four partial sums, or BY_ROWS of four
   columns (of which the last ones may be the same) to one each. */
INLINE void sum_rows(const field *dz, const span *at, const int64_t columns[4], V sums[4]) {
    const int64_t row = RL * row_of(dz);
    int64_t column[4];
    for (int q = 0; q < 4; q++) column[q] = columns[q] * dz->block;
    for (int64_t t = at->t0, next; t < at->t1; t = next) {
        const int64_t end = last_row(at, t);
        next = same_rows_end(at, t);
        for (row_part of = first_part(at->r0, end); of.vectors > 0; of = next_part(&of, end)) {
            const VI *lanes = lanes_of(&of);
            for (int64_t n = t; n < next; n++) {
                const real *d = chunk(dz, n, of.r, 0);
                int64_t i = 0;
                if (BY_ROWS) {
                    for (; i < of.vectors; i++, d += row)
                        UNROLL_FOR (int q = 0; q < 4; q++)
                            sums[q] += v_load_lanes(d + column[q], lanes);
                    continue;
                }
                d += column[0];
                for (; i + 4 <= of.vectors; i += 4)
                    UNROLL_FOR (int q = 0; q < 4; q++) sums[q] += v_load(d + (i + q) * row);
                for (; i < of.vectors; i++) sums[0] += v_load(d + i * row);
            }
        }
    }
}

/* db = sum over all rows of dz, for a bias and for its twin, which has the same gradient (or NULL).
   All threads call it, each for its share of the vectors. */
static void NAME(collect_bias)(const matrix *m, const matrix *twin, const field *output_grads,
                               void *grad, int add, const span *steps, int64_t part,
                               int64_t parts) {
    enum { AT_ONCE = BY_ROWS ? 4 : 1 };
    const span at = rows_span(steps);
    const field dz = rows_field(output_grads, steps);
    const int64_t first = share(m->vectors, part, parts);
    const int64_t last = share(m->vectors, part + 1, parts);
    for (int64_t n = first; n < last; n += AT_ONCE) {
        const int64_t count = min64(AT_ONCE, last - n);
        int64_t columns[4];
        V sums[4] = { v_set(0) };
        for (int q = 0; q < 4; q++) columns[q] = min64(n + q, last - 1);
        for (int64_t q = 0; add && q < count; q++)
            sums[q] = v_load_part((real *)grad + m->packed + (n + q) * CL, CL);
        sum_rows(&dz, &at, columns, sums);
        if (!BY_ROWS) sums[0] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        for (int64_t q = 0; q < count; q++) {
            const W sum = w_sum_rows(sums[q]);
            w_store((real *)grad + m->packed + (n + q) * CL, sum);
            if (twin) w_store((real *)grad + twin->packed + (n + q) * CL, sum);
        }
    }
}

/* -- flat (PyTorch's order) to packed and back, each thread its share; padding is zero -- */

/* The vector of gate g of block ub of the units. */
INLINE real *packed_row(const matrix *m, void *packed, int64_t ub, int64_t g, int64_t *stride) {
    return packed_vector(m, packed, ub * m->gates + g, stride);
}

/* rows[i][j] <-> rows[j][i]: log2(VL) perfect shuffles of the rows' halves */
INLINE void v_transpose(V *rows) {
    VI low, high;
    UNROLL_FOR (int j = 0; j < VL; j++) {
        low[j] = j % 2 * VL + j / 2;
        high[j] = low[j] + VL / 2;
    }
    UNROLL_FOR (int n = 1; n < VL; n *= 2) {
        V out[VL];
        UNROLL_FOR (int i = 0; i < VL / 2; i++) {
            out[2 * i] = v_shuffle(rows[i], rows[i + VL / 2], low);
            out[2 * i + 1] = v_shuffle(rows[i], rows[i + VL / 2], high);
        }
        UNROLL_FOR (int i = 0; i < VL; i++) rows[i] = out[i];
    }
}

/* A vector or an embedding (gates, units) from the flat vector into the packed one, or out of
   it: in the order of the flat vector, as an embedding is large. */
INLINE void move_vector(const matrix *m, real *flat, real *packed, int out, int64_t part,
                        int64_t parts) {
    const int64_t blocks = blocks_of(m->units), last = share(m->gates, part + 1, parts);
    for (int64_t g = share(m->gates, part, parts); g < last; g++)
        for (int64_t ub = 0; ub < blocks; ub++) {
            const int64_t n = min64(CL, m->units - ub * CL);
            real *unit = flat + m->flat + g * m->units + ub * CL;
            real *vector = packed + m->packed + (ub * m->gates + g) * CL;
            if (out)
                v_store_part(unit, v_load(vector), n);
            else
                v_store(vector, v_load_part(unit, n));
        }
}

/* A matrix or bias from the flat vector into the packed one. */
static void NAME(pack)(const matrix *m, const void *flat, void *packed, int64_t part,
                       int64_t parts) {
    const int is_vector = !BY_ROWS && m->cols == 1;
    const int64_t first = share(m->vectors, part, parts);
    const int64_t last = is_vector ? first : share(m->vectors, part + 1, parts);
    if (is_vector) move_vector(m, (real *)flat, packed, 0, part, parts);
    for (int64_t v = first; v < last; v++) {
        const int64_t ub = v / m->gates, g = v % m->gates;
        const int64_t n = min64(CL, m->units - ub * CL);
        const real *from = (const real *)flat + m->flat + (g * m->units + ub * CL) * m->cols;
        int64_t stride;
        real *to = packed_row(m, packed, ub, g, &stride);
        if (BY_ROWS) {
            for (int64_t c = 0; c < m->cols; c++) to[c * stride] = from[c];
            continue;
        }
        for (int64_t c = 0; c < m->cols; c += VL) {
            const int64_t columns = min64(VL, m->cols - c);
            V rows[VL];
            for (int64_t j = 0; j < VL; j++)
                rows[j] = j < n ? v_load_part(from + j * m->cols + c, columns) : v_set(0);
            v_transpose(rows);
            for (int64_t k = 0; k < columns; k++, to += stride) v_store(to, rows[k]);
        }
    }
    if (part) return;
    for (int64_t i = m->vectors * CL * m->cols; i < m->size; i++)
        ((real *)packed)[m->packed + i] = 0;
}

/* The inverse of pack; padding is not read. */
static void NAME(unpack)(const matrix *m, const void *packed, void *flat, int64_t part,
                         int64_t parts) {
    const int64_t first = share(m->vectors, part, parts);
    const int64_t last = share(m->vectors, part + 1, parts);
    if (!BY_ROWS && m->cols == 1) {
        move_vector(m, flat, (real *)packed, 1, part, parts);
        return;
    }
    for (int64_t v = first; v < last; v++) {
        const int64_t ub = v / m->gates, g = v % m->gates;
        const int64_t n = min64(CL, m->units - ub * CL);
        real *to = (real *)flat + m->flat + (g * m->units + ub * CL) * m->cols;
        int64_t stride;
        const real *from = packed_row(m, (void *)packed, ub, g, &stride);
        if (BY_ROWS) {
            for (int64_t c = 0; c < m->cols; c++) to[c] = from[c * stride];
            continue;
        }
        for (int64_t c = 0; c < m->cols; c += VL) {
            const int64_t columns = min64(VL, m->cols - c);
            V rows[VL];
            for (int64_t k = 0; k < VL; k++)
                rows[k] = k < columns ? v_load(from + k * stride) : v_set(0);
            from += columns * stride;
            v_transpose(rows);
            for (int64_t j = 0; j < n; j++) v_store_part(to + j * m->cols + c, rows[j], columns);
        }
    }
}

/* One vector of columns of the transposed copy, from `count` columns of the packed weights of a
   block of `units` units and one gate.  stride: from column to column; apart: from unit to unit. */
INLINE void transpose_block(const real *from, int64_t stride, int64_t count, real *to,
                            int64_t apart, int64_t units) {
    if (BY_ROWS || units <= 2) { /* a few outputs: not worth the exchanges */
        for (int64_t j = 0; j < units; j++, to += apart)
            for (int64_t k = 0; k < CL; k++) to[k] = k < count ? from[k * stride + j] : 0;
        return;
    }
    V rows[VL];
    for (int64_t k = 0; k < VL; k++) rows[k] = k < count ? v_load(from + k * stride) : v_set(0);
    v_transpose(rows);
    for (int64_t j = 0; j < units; j++, to += apart) v_store(to, rows[j]);
}

/* The transposed copy for the backward pass, from the packed weights.  All threads call it, each
   for its share of the vectors of columns. */
INLINE void transpose_weights(const matrix *m, const void *packed, int64_t part, int64_t parts) {
    const int64_t vectors = blocks_of(m->K), depth = m->gates * m->units;
    const int64_t last = m->column_groups - 1;
    const int64_t all = last * vectors + blocks_of(m->last);
    const int64_t from_n = share(all, part, parts);
    const int64_t to_n = share(all, part + 1, parts);
    for (int64_t n = from_n; n < to_n; n++) {
        const int64_t group = last ? min64(n / vectors, last) : 0, kb = n - group * vectors;
        const int64_t K = columns_of(m, group);
        const int64_t first = kb / 2 * 2; /* vector of its panel, which is two wide */
        const int64_t nv = min64(2, blocks_of(K) - first);
        const int64_t count = min64(CL, K - kb * CL);
        const int64_t column = m->before + group * m->K + kb * CL;
        real *to = (real *)m->transposed + ((group * vectors + first) * depth + kb - first) * CL;
        for (int64_t ub = 0; ub < blocks_of(m->units); ub++)
            for (int64_t g = 0; g < m->gates; g++) {
                const int64_t units = min64(CL, m->units - ub * CL);
                int64_t stride;
                const real *from = packed_row(m, (void *)packed, ub, g, &stride);
                transpose_block(from + column * stride, stride, count, to, nv * CL, units);
                to += units * nv * CL;
            }
    }
}
static void NAME(pack_transposed)(const matrix *m, const void *packed, int64_t part,
                                  int64_t parts) {
    transpose_weights(m, packed, part, parts);
}
