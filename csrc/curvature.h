/* curvature.h: the tape of a few sequences repeated in the rows of a batch, seeds of its way back, and the product A'A. */

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
/* out (width, width) += A'A of A (rows, width), from the first column on to the end of the diagonal's tile: the upper triangle */
static void NAME(gram)(const void *a, int64_t rows, int64_t width, void *out) {
    const field f = { (void *)a, 0, VL, width };
    const span at = { 0, 1, 0, rows, NULL, BATCH };
    for (int64_t n = 0; n < width; n += 2 * VL) {
        const real *dz = (const real *)a + n;
        if (width - n >= 2 * VL) collect_panel(2, &f, a, &f, dz, &at, 0, n + 2 * VL, (real *)out + n, width, 1);
        else collect_panel(1, &f, a, &f, dz, &at, 0, n + VL, (real *)out + n, width, 1);
    }
}
