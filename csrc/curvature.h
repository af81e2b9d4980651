/* curvature.h: the tape of a few sequences repeated in the rows of a batch, seeds of its way back; tangents of all parameters in
   the rows of a batch; and the product A'A. */

/* Row r of `to` becomes row row[r] of `from`, in the steps of the span. */
static void NAME(repeat)(const field *from, const int64_t *row, const field *to, const span *at) {
    for (int64_t t = at->t0; t < at->t1; t++)
        for (int64_t b = 0; b < to->step / to->block; b++)
            for (int64_t r = at->r0; r < last_row(at, t); r++) v_store(chunk(to, t, r, b), v_load(chunk(from, t, row[r], b)));
}
/* Row r of chunk 0: `value` in one column, zeros in the others. */
static void NAME(unit)(const field *to, int64_t r, int64_t column, double value) {
    for (int64_t b = 0; b < to->step / to->block; b++) v_store(chunk(to, 0, r, b), v_set(0));
    chunk(to, 0, r, column / VL)[column % VL] = (real)value;
}
static double NAME(entry)(const field *from, int64_t t, int64_t r, int64_t column) {
    return chunk(from, t, r, column / VL)[column % VL];
}
/* A row's value in one column, zeros after it. */
static void NAME(fill)(void *row, int64_t column, int64_t width, double value) {
    for (int64_t c = column; c < width; c++) ((real *)row)[c] = c == column ? (real)value : 0;
}
/* Each parameter of a block is a direction, whose row of z (1, P, G*units) gets what the parameter meets: dz = x, or 1 for a bias
   (x NULL); x at step t, row b.  add: to what z holds. */
static void NAME(inject)(const matrix *m, const field *x, int64_t t, int64_t b, const field *z, int add) {
    for (int64_t g = 0; g < m->gates; g++)
        for (int64_t j = 0; j < m->units; j++) {
            const int64_t first = m->flat + (g * m->units + j) * m->cols;
            real *to = chunk(z, 0, first, j / VL * m->gates + g) + j % VL;
            for (int64_t c = 0; c < m->cols; c++, to += z->row) {
                const real value = x ? chunk(x, t, b, c / VL)[c % VL] : 1;
                *to = add ? *to + value : value;
            }
        }
}
/* dv = dv . act'(v), the values v at step t, row b, the same for all rows of dv */
static void NAME(bend)(int act, const field *v, int64_t t, int64_t b, const field *dv, int64_t rows) {
    for (int64_t n = 0; n < dv->step / dv->block; n++) {
        const V slope = v_dact(act, v_load(chunk(v, t, b, n)));
        for (int64_t r = 0; r < rows; r++) v_store(chunk(dv, 0, r, n), v_load(chunk(dv, 0, r, n)) * slope);
    }
}
/* to[r] = factor times column c of row r */
static void NAME(column)(const field *from, int64_t c, int64_t rows, double factor, void *to) {
    const real *p = chunk(from, 0, 0, c / VL) + c % VL, scale = (real)factor;
    for (int64_t r = 0; r < rows; r++) ((real *)to)[r] = scale * p[r * from->row];
}
/* out (width, width) += A'A of A (rows, width), from the first column on to the end of the diagonal's tile: the upper triangle */
static void NAME(gram)(const void *a, int64_t rows, int64_t width, void *out) {
    const field f = { (void *)a, 0, VL, width };
    const span at = { 0, 1, 0, rows, NULL, BATCH };
    for (int64_t n = 0; n < width; n += 2 * VL) {
        const real *dz = (const real *)a + n;
        const int64_t wide = width - n >= 2 * VL ? 2 : 1, columns = n + wide * VL;
        for (int64_t i = 0, height; i < columns; i += height) {
            height = tile_height(COLLECT_HIGH, least(COLLECT_HIGH, columns - i));
            collectors[wide][height](&f, (const real *)a + i, &f, dz, &at, (real *)out + i * width + n, width, 1);
        }
    }
}
