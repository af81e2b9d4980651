/* batch.h: the caller's rows into fields and back, and the padding of fields. */

/* n reals to or from columns [0, n) of a row of blocks; columns beyond are written as zero */
INLINE void row_in(const real *from, int64_t n, real *to, int64_t block) {
    for (; n >= VL; n -= VL, from += VL, to += block) v_store(to, v_load(from));
    if (n) v_store(to, v_load_part(from, n));
}
INLINE void row_out(const real *from, int64_t block, int64_t n, real *to) {
    for (; n >= VL; n -= VL, from += block, to += VL) v_store(to, v_load(from));
    if (n) v_store_part(to, v_load(from), n);
}
static void NAME(gather)(const source *s, int64_t columns, const field *x, const span *at) {
    for (int64_t r = at->r0; r < at->r1; r++) {
        const int64_t i = s->row[r], n = least(at->t1, s->length[i] - s->first);
        for (int64_t t = at->t0; t < n; t++)
            row_in((const real *)s->values + (s->offset[i] + s->first + t) * columns, columns, chunk(x, t, r, 0), x->block);
    }
}
/* Rows of a field into the caller's array: to the rows of the targets (every or last step), or of the inputs (-1). */
static void NAME(scatter)(const source *s, int64_t columns, const field *x, const span *at, int every, void *out) {
    for (int64_t r = at->r0; r < at->r1; r++) {
        const int64_t i = s->row[r], n = every ? least(at->t1, s->length[i] - s->first) : at->t1;
        const int64_t row = every < 0 ? s->offset[i] + s->first : every ? s->target_offset[i] + s->first : s->target_offset[i];
        for (int64_t t = at->t0; t < n; t++) row_out(chunk(x, t, r, 0), x->block, columns, (real *)out + (row + (every ? t : 0)) * columns);
    }
}
/* `columns` reals at position `at_state` of each sequence's state, into chunk t of s (zeros without states), and back. */
static void NAME(load_state)(const source *s, int64_t size, int64_t at_state, int64_t columns, const field *to, int64_t t, const span *at) {
    for (int64_t r = at->r0; r < at->r1; r++)
        if (s->state) row_in((const real *)s->state + s->row[r] * size + at_state, columns, chunk(to, t, r, 0), to->block);
        else for (int64_t b = 0; b < blocks_of(columns); b++) v_store(chunk(to, t, r, b), v_set(0));
}
static void NAME(store_state)(const source *s, int64_t size, int64_t at_state, int64_t columns, const field *from, int64_t t,
                              const span *at, void *out) {
    for (int64_t r = at->r0; r < at->r1; r++)
        row_out(chunk(from, t, r, 0), from->block, columns, (real *)out + s->row[r] * size + at_state);
}
static void NAME(copy_rows)(const field *from, int64_t t_from, const field *to, int64_t t_to, int64_t r0, int64_t r1) {
    for (int64_t b = 0; b < to->step / to->block; b++)
        for (int64_t r = r0; r < r1; r++) v_store(chunk(to, t_to, r, b), v_load(chunk(from, t_from, r, b)));
}
static void NAME(zero_rows)(const field *to, int64_t t, int64_t r0, int64_t r1) {
    for (int64_t b = 0; b < to->step / to->block; b++)
        for (int64_t r = r0; r < r1; r++) v_store(chunk(to, t, r, b), v_set(0));
}
