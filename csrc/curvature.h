/* curvature.h: kernels of second order, which curvature.c calls on its one thread: the tape of a
   few sequences repeated in the rows of a batch, seeds of its backward pass, and what its rows
   become in the Jacobian J; what tangents of the states are made of; the product A'A and
   Cholesky's method. */

/* Row r of `to` becomes row row[r] of `from`, in the steps of the span. */
static void NAME(gather_rows)(const field *from, const int64_t *row, const field *to,
                              const span *at) {
    for (int64_t t = at->t0; t < at->t1; t++)
        for (int64_t b = 0; b < to->step / to->block; b++)
            for (int64_t r = at->r0; r < last_row(at, t); r++)
                v_store(chunk(to, t, r, b), v_load(chunk(from, t, row[r], b)));
}

/* Row r of chunk 0: `value` in one column, zeros in the others. */
static void NAME(set_one_hot)(const field *to, int64_t r, int64_t column, double value) {
    for (int64_t b = 0; b < to->step / to->block; b++) v_store(chunk(to, 0, r, b), v_set(0));
    chunk(to, 0, r, column / VL)[column % VL] = (real)value;
}

/* The value in one column of row r at step t. */
static double NAME(element)(const field *from, int64_t t, int64_t r, int64_t column) {
    return chunk(from, t, r, column / VL)[column % VL];
}

/* A row's value in one column, zeros after it. */
static void NAME(fill_row)(void *row, int64_t column, int64_t width, double value) {
    for (int64_t c = column; c < width; c++) ((real *)row)[c] = c == column ? (real)value : 0;
}

/* row[parameters of a column group of W] = dz x', of row r of chunk 0, without those of integers */
static void NAME(outer_product)(const matrix *m, int64_t group, const field *dz, const field *x,
                                int64_t r, void *row) {
    const int64_t columns = columns_of(m, group);
    for (int64_t j = 0; j < m->units; j++) {
        const real slope = chunk(dz, 0, r, j / VL)[j % VL];
        real *to = (real *)row + m->flat + j * m->cols + group * m->K;
        for (int64_t c = 0; c < columns; c++)
            to[c] = m->bias ? slope : slope * chunk(x, 0, r, c / VL)[c % VL];
    }
}

/* to[c] += factor x[c], the columns of x in blocks */
static NOINLINE void add_row(real *to, const real *x, int64_t block, int64_t columns, real factor) {
    int64_t c = 0;
    for (; c + VL <= columns; c += VL, x += block)
        v_store(to + c, v_load(to + c) + factor * v_load(x));
    for (int64_t i = 0; c + i < columns; i++) to[c + i] += factor * x[i];
}

/* A gradient of which `wide` vectors are neighbours, `stride` reals from one column to the next. */
INLINE tile_gradient side_by_side(real *out, int64_t wide, int64_t stride) {
    tile_gradient place;
    for (int64_t v = 0; v < wide; v++) {
        place.p[v] = out + v * VL;
        place.stride[v] = stride;
    }
    return place;
}

/* out (columns, wide vectors) += A'B, of `rows` rows of A and B; those of out are as far apart as
   those of B */
static NOINLINE void add_panel(const real *a, int64_t a_row, int64_t columns, const real *b,
                               int64_t b_row, int64_t wide, int64_t rows, real *out) {
    const field a_field = { .p = (void *)a, .block = VL, .row = a_row };
    const field b_field = { .p = (void *)b, .block = VL, .row = b_row };
    const span at = { .t1 = 1, .r1 = rows, .reduction = REDUCE_ROWS };
    panel_collect(&a_field, a, columns, &b_field, b, wide, &at, side_by_side(out, wide, b_row), 1);
}

/* The chain rule: row (width) = sum over the units k of ds[k] tangent[k], for ds of row r and the
   tangents (units, width) of h */
static void NAME(apply_chain_rule)(const field *ds, int64_t r, int64_t units, const void *tangent,
                                   int64_t width, void *row) {
    const field one_row = { .p = ds->p, .block = VL, .row = 1 };
    const field by_unit = { .p = (void *)tangent, .block = VL, .row = width };
    for (int64_t k = 0; k < units; k += VL) {
        const span at = { .t1 = 1, .r1 = min64(VL, units - k), .reduction = REDUCE_ROWS };
        const real *from = (const real *)tangent + k * width;
        for (int64_t c = 0, wide; c < width; c += wide * VL) {
            wide = min64(PANEL_MAX, (width - c) / VL);
            const tile_gradient place = side_by_side((real *)row + c, wide, 0);
            collectors[wide][1](&one_row, chunk(ds, 0, r, k / VL), &by_unit, from + c, &at, &place,
                                k > 0);
        }
    }
}

/* out (width, width) += A'A of A (rows, width), rows of both `stride` apart: the upper triangle, each
   row of it from the first column of the diagonal's tile on */
static void NAME(gram)(const void *a, int64_t rows, int64_t width, int64_t stride, void *out) {
    for (int64_t n = 0, wide; n < width; n += wide * VL) {
        wide = min64(COLLECT_WIDE, (width - n) / VL);
        const real *panel = (const real *)a + n;
        add_panel(a, stride, n + wide * VL, panel, stride, wide, rows, (real *)out + n);
    }
}

/* Rows [from, to) of U in their place, of A = U'U: rows (width) hold -A in the upper triangle, less
   what earlier rows of U contribute, and what is to be multiplied by U'^-1 behind it.  Returns 0
   where A is not positive definite. */
static int NAME(factor_rows)(void *rows, int64_t from, int64_t to, int64_t width) {
    for (int64_t i = from; i < to; i++) {
        real *u = (real *)rows + i * width;
        const real pivot = (real)sqrt(-u[i]), first = -u[i];
        if (!(first > 0 && pivot < INFINITY)) return 0;
        for (int64_t c = i / VL * VL; c < width; c += VL) v_store(u + c, v_load(u + c) / -pivot);
        for (int64_t j = i + 1; j < to; j++) {
            real *row = (real *)rows + j * width;
            for (int64_t c = j / VL * VL; c < width; c += VL)
                v_store(row + c, v_load(row + c) + u[j] * v_load(u + c));
        }
    }
    return 1;
}

/* x (n) of U x = y, from U's rows (width), whose column n is y */
static void NAME(solve_rows)(const void *rows, int64_t n, int64_t width, void *x) {
    real *to = x;
    for (int64_t i = n - 1; i >= 0; i--) {
        const real *u = (const real *)rows + i * width;
        real sum = u[n];
        for (int64_t j = i + 1; j < n; j++) sum -= u[j] * to[j];
        to[i] = sum / u[i];
    }
}
