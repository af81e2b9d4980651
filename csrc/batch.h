/* batch.h: the caller's rows into fields and back, the padding of fields, dropout and the closed
   loop.  layers.c, head.c, states.c and the verbs' files call the functions with NAME through the
   table of kernels, each thread for its own rows. */

/* n reals into columns [0, n) of a row of blocks (columns beyond are written as zero), or out of
   them. */
INLINE void row_in(const real *from, int64_t n, real *to, int64_t block) {
    for (; n >= CL; n -= CL, from += CL, to += block) w_store(to, w_load(from));
    if (n) v_store(to, v_load_part(from, n));
}
INLINE void row_out(const real *from, int64_t block, int64_t n, real *to) {
    for (; n >= CL; n -= CL, from += block, to += CL) w_store(to, w_load(from));
    if (n) v_store_part(to, v_load(from), n);
}

/* How many of the caller's rows step t of a sequence lies after its first. */
INLINE int64_t rows_after(const source *s, int64_t t) {
    return s->start ? s->start[s->first + t] : s->first + t;
}

/* `columns` of the caller's reals at step t of row r into x. */
INLINE void gather_row(const source *s, int64_t width, int64_t columns, const field *x, int64_t t,
                       int64_t r) {
    const int64_t row = s->offset[s->row[r]] + rows_after(s, t);
    const int64_t whole = columns / CL * CL;
    const real *from = (const real *)s->values + row * width;
    real *to = chunk(x, t, r, 0);
    int64_t c = 0;
    for (int64_t ahead = 0; ahead < columns; ahead += 64 / sizeof(real))
        __builtin_prefetch(from + 8 * width + ahead);
    for (; c < whole; c += CL, to += x->block) w_store(to, w_load(from + c));
    if (c < columns) v_store(to, v_load_part(from + c, columns - c));
}

/* BY_ROWS: what the caller has for the rows of a vector, one real of each row at a time; in the lanes of
   rows that are not of the span, those of another one.  A block of VL such vectors is VL reals of
   each row, transposed. */
typedef struct {
    /* where each row begins; how many reals it has, at least VL */
    const real *row[VL];
    int64_t count;
    V block[VL];
    /* the next vector of the block; the next real after it */
    int at;
    int64_t next;
} row_reader;

/* The row that lane j of the vector r reads. */
INLINE int64_t row_of_lane(const span *at, int64_t r, int j) {
    return max64(at->r0, min64(at->r1 - 1, r + j));
}
INLINE V read_next(row_reader *of) {
    if (of->at == VL) {
        const int64_t begin = min64(of->next, of->count - VL); /* the last block is whole, too */
        UNROLL_FOR (int j = 0; j < VL; j++) {
            of->block[j] = v_load(of->row[j] + begin);
            __builtin_prefetch(of->row[j] + begin + 256 / sizeof(real));
        }
        v_transpose(of->block);
        of->at = (int)(of->next - begin);
        of->next = begin + VL;
    }
    return of->block[of->at++];
}

/* The rows of the vector r of x, at the steps that all of them have.  Returns the first step that is
   left. */
INLINE int64_t gather_vector(const source *s, int64_t columns, const field *x, const span *at,
                             int64_t r) {
    const int64_t last = row_of_lane(at, r, VL - 1);
    const row_part part = first_vector(max64(r, at->r0), padded_row(at, last + 1));
    int64_t end = at->t1;
    while (end > at->t0 && last_row(at, end - 1) <= last) end--;
    row_reader values;
    values.count = (end - at->t0) * columns;
    values.next = 0;
    values.at = VL;
    if (s->start || values.count < VL) return at->t0;
    for (int j = 0; j < VL; j++) {
        const int64_t row = s->offset[s->row[row_of_lane(at, r, j)]] + s->first + at->t0;
        values.row[j] = (const real *)s->values + row * columns;
    }
    const int64_t apart = x->block, step = x->step - columns * apart;
    real *to = chunk(x, at->t0, r, 0);
    for (int64_t t = at->t0; t < end; t++, to += step)
        for (int64_t c = 0; c < columns; c++, to += apart)
            v_store_lanes(to, read_next(&values), lanes_of(&part));
    return end;
}

/* x[t] = `columns` reals of each of the caller's rows, which are `width` reals apart.  Step by step, as
   x is stored; BY_ROWS sequence by sequence, as the caller's array is, since a step of a row is
   scattered over x anyway. */
static void NAME(gather)(const source *s, int64_t width, int64_t columns, const field *x,
                         const span *at) {
    if (!BY_ROWS)
        for (int64_t t = at->t0; t < at->t1; t++)
            for (int64_t r = at->r0; r < last_row(at, t); r++)
                gather_row(s, width, columns, x, t, r);
    for (int64_t r = at->r0 / VL * VL; BY_ROWS && r < at->r1; r += VL) {
        const int64_t begin = width == columns ? gather_vector(s, columns, x, at, r) : at->t0;
        for (int64_t b = max64(r, at->r0); b < min64(r + VL, at->r1); b++)
            for (int64_t t = begin; t < at->t1 && b < last_row(at, t); t++)
                gather_row(s, width, columns, x, t, b);
    }
}

/* The inverse: rows of a field into the caller's array.  every: 1 and 0: to the rows of the
   targets, one per step or per sequence; -1: to the rows of the inputs. */
static void NAME(scatter)(const source *s, int64_t width, int64_t columns, const field *x,
                          const span *at, int every, void *out) {
    for (int64_t r = at->r0; r < at->r1; r++) {
        const int64_t i = s->row[r];
        const int64_t steps = every ? min64(at->t1, s->length[i] - s->first) : at->t1;
        const int64_t first = every < 0 ? s->offset[i] : s->target_offset[i];
        for (int64_t t = at->t0; t < steps; t++) {
            const int64_t row = first + (every ? rows_after(s, t) : 0);
            row_out(chunk(x, t, r, 0), x->block, columns, (real *)out + row * width);
        }
    }
}

/* `columns` reals at position `at_state` of each sequence's state (of `size` reals) into chunk t of
   a field; zeros where there are no states. */
static void NAME(load_state)(const source *s, int64_t size, int64_t at_state, int64_t columns,
                             const field *to, int64_t t, const span *at) {
    for (int64_t r = at->r0; r < at->r1; r++) {
        if (s->state) {
            const real *from = (const real *)s->state + s->row[r] * size + at_state;
            row_in(from, columns, chunk(to, t, r, 0), to->block);
        } else {
            for (int64_t b = 0; b < blocks_of(columns); b++) w_store(chunk(to, t, r, b), (W){ 0 });
        }
    }
}

/* The inverse. */
static void NAME(store_state)(const source *s, int64_t size, int64_t at_state, int64_t columns,
                              const field *from, int64_t t, const span *at, void *out) {
    for (int64_t r = at->r0; r < at->r1; r++) {
        real *to = (real *)out + s->row[r] * size + at_state;
        row_out(chunk(from, t, r, 0), from->block, columns, to);
    }
}

/* Rows [r0, r1) of chunk t_to = those of chunk t_from of another field. */
static void NAME(copy_rows)(const field *from, int64_t t_from, const field *to, int64_t t_to,
                            int64_t r0, int64_t r1) {
    for (int64_t b = 0; b < to->step / to->block; b++)
        for (int64_t r = r0; r < r1; r++)
            w_store(chunk(to, t_to, r, b), w_load(chunk(from, t_from, r, b)));
}

/* Rows [r0, r1) of chunk t = 0 */
static void NAME(zero_rows)(const field *to, int64_t t, int64_t r0, int64_t r1) {
    for (int64_t b = 0; b < to->step / to->block; b++)
        for (int64_t r = r0; r < r1; r++) w_store(chunk(to, t, r, b), (W){ 0 });
}

/* h = act(c), rows [r0, r1) of chunk t */
static void NAME(activate)(int act, int64_t columns, const field *c, const field *h, int64_t t,
                           int64_t r0, int64_t r1) {
    for (int64_t b = 0; b < blocks_of(columns); b++)
        for (int64_t r = r0; r < r1; r++)
            v_store_part(chunk(h, t, r, b), v_act(act, v_load_part(chunk(c, t, r, b), CL)), CL);
}

/* dc += dh . act'(h) and then dh = 0, rows [r0, r1), of dh and dc in chunk 0 */
static void NAME(activate_backward)(int act, int64_t columns, const field *h, int64_t t,
                                    const field *dh, const field *dc, int64_t r0, int64_t r1) {
    for (int64_t b = 0; b < blocks_of(columns); b++)
        for (int64_t r = r0; r < r1; r++) {
            const V slope = v_dact(act, v_load_part(chunk(h, t, r, b), CL));
            real *from = chunk(dh, 0, r, b), *to = chunk(dc, 0, r, b);
            v_store_part(to, v_load_part(to, CL) + v_load_part(from, CL) * slope, CL);
            v_store_part(from, v_set(0), CL);
        }
}

/* to = from . by, for the rows of one step each; `by` has one chunk */
static void NAME(multiply)(const field *from, const field *by, const field *to, int64_t t,
                           int64_t r0, int64_t r1) {
    for (int64_t b = 0; b < by->step / by->block; b++)
        for (int64_t r = r0; r < r1; r++) {
            const W factor = w_load(chunk(by, 0, r, b));
            w_store(chunk(to, t, r, b), w_load(chunk(from, t, r, b)) * factor);
        }
}

/* For windows that share the projection of their inputs: row p + r*stride of the series lies in row
   r of chunk p.  to[p][r] = sum of from[t][b] over all steps t and windows b with
   t + b*stride = p + r*stride, always in the order of t.  All threads call it, each for its share
   of the columns. */
static void NAME(sum_windows)(const field *from, const field *to, int64_t stride, int64_t steps,
                              int64_t rows, int64_t part, int64_t parts) {
    const int64_t blocks = to->step / to->block;
    for (int64_t n = share(blocks, part, parts); n < share(blocks, part + 1, parts); n++) {
        for (int64_t p = 0; p < min64(stride, steps); p++)
            for (int64_t r = 0; r < to->block / to->row; r++) v_store(chunk(to, p, r, n), v_set(0));
        for (int64_t t = 0; t < steps; t++) {
            const real *d = chunk(from, t, 0, n);
            real *sum = chunk(to, t % stride, t / stride, n);
            for (int64_t b = 0; b < rows; b++, d += VL, sum += VL)
                v_store(sum, v_load(sum) + v_load(d));
        }
    }
}

#if BY_ROWS
/* n of the caller's reals into as many vectors: the same in all lanes. */
static void NAME(spread)(const void *from, int64_t n, void *to) {
    for (int64_t i = 0; i < n; i++) v_store((real *)to + i * VL, v_set(((const real *)from)[i]));
}
#endif

/* -- draws: a hash of (key, sequence, step, column), so they depend neither on the split into
      threads nor on the order, and the backward pass makes them again -- */

/* The hash of 32 bits: of one number, and of each lane. */
#define HASH32(T, name)                    \
    INLINE T name(T x) {                   \
        x = (x ^ (x >> 16)) * 0x21f0aaadu; \
        x = (x ^ (x >> 15)) * 0xd35a2d97u; \
        return x ^ (x >> 15);              \
    }
HASH32(uint32_t, hash32)
HASH32(U, u_hash)
#undef HASH32
INLINE uint64_t hash64(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
INLINE uint64_t draw_key(const dropout *d, const source *s, int64_t r, int64_t t,
                         int per_sequence) {
    const int64_t number = s->number ? s->number[s->row[r]] : s->row[r];
    const uint64_t sequence = hash64((uint64_t)number + 0x9e3779b97f4a7c15u);
    const uint64_t row = hash64(d->key ^ sequence);
    return per_sequence ? row : hash64(row + (uint64_t)(s->first + t));
}
/* One draw, uniform over [0, 2^32). */
INLINE uint32_t draw(uint64_t key, int64_t column) {
    const uint32_t low = hash32((uint32_t)column * 0x9e3779b1u + (uint32_t)key);
    return hash32(low ^ (uint32_t)(key >> 32));
}

/* Dropout: to = from times 0 or 1/(1-p).  from NULL: the factors themselves.  per_sequence: the
   same factors at each step. */
static void NAME(drop)(const dropout *d, const source *s, const field *from, const field *to,
                       const span *at, int per_sequence) {
    const uint32_t limit = (uint32_t)(d->p * 4294967296.0);
    const real factor = (real)(1 / (1 - d->p));
    for (int64_t t = at->t0; t < at->t1; t++)
        for (int64_t r = at->r0; r < last_row(at, t); r++) {
            const uint64_t key = draw_key(d, s, r, t, per_sequence);
            for (int64_t b = 0; b < to->step / to->block; b++) {
                real keep[CL];
                for (int j = 0; j < CL; j++) keep[j] = draw(key, b * CL + j) >= limit ? factor : 0;
                const W factors = w_load(keep);
                w_store(chunk(to, t, r, b),
                        from ? factors * w_load(chunk(from, t, r, b)) : factors);
            }
        }
}

/* The reals that the lanes are as signed numbers. */
INLINE V u_real(U x) {
    typedef int32_t I __attribute__((vector_size(sizeof(U))));
    return __builtin_convertvector((I)x, V);
}

/* v with the sign of each lane changed where x is odd. */
INLINE V u_sign(U x, V v) {
    typedef uireal UI __attribute__((vector_size(VBYTES)));
    return (V)((UI)v ^ (__builtin_convertvector(x, UI) << (REAL_BITS - 1)));
}

/* What a pair of numbers is made of: 64 random bits for each lane, by the halves of its key and the number
   of the pair. */
INLINE void u_draw(U low, U high, U pair, U bits[2]) {
    const U hash = u_hash(pair * 0x9e3779b1u + low);
    bits[0] = u_hash(hash ^ high);
    bits[1] = u_hash(hash ^ (high * 0x85ebca6bu + 0xc2b2ae35u));
}

/* Two numbers of the standard normal distribution (Box and Muller) for each lane: r sin x, and r cos x
   with a random sign, x from -pi/2 to pi/2. */
INLINE void v_normals(const U bits[2], V xi[2]) {
    const V u = u_real(bits[0] >> 1) * (real)0x1p-31 + (real)0x1p-32;
    const V r = v_sqrt(-2 * v_log(u));
    V sine, cosine;
    v_sin_cos(u_real(bits[1]) * (real)(3.14159265358979323846 * 0x1p-32), &sine, &cosine);
    xi[0] = r * sine;
    xi[1] = u_sign(bits[0], r) * cosine;
}

/* Noise: to = to + amplitude xi or, without `add`, amplitude xi; amplitude: (columns), padded with
   zeros; xi of the standard normal distribution.  Of each 32 columns, the first 16 and the last are
   pairs. */
static void NAME(noise)(const dropout *d, const source *s, int64_t columns, const void *amplitude,
                        int add, const field *to, const span *at) {
    enum { APART = 16 / CL, AT_ONCE = 16 };
    const int64_t blocks = blocks_of(columns),
                  pairs = blocks / (2 * APART) * APART + min64(APART, blocks % (2 * APART));
    U lane;
    for (int j = 0; j < VL; j++) lane[j] = BY_ROWS ? 0 : (uint32_t)j;
    for (int64_t t = at->t0; t < at->t1; t++) {
        const int64_t end = last_row(at, t);
        for (row_part of = first_vector(at->r0, end); of.vectors > 0; of = next_vector(&of, end)) {
            U low = { 0 }, high = { 0 };
            for (int j = 0; j < RL; j++) {
                const int64_t r = BY_ROWS ? row_of_lane(at, of.r, j) : of.r;
                const uint64_t key = draw_key(d, s, r, t, 0);
                low[j] = (uint32_t)key;
                high[j] = (uint32_t)(key >> 32);
            }
            if (!BY_ROWS) {
                low = low[0] - (U){ 0 };
                high = high[0] - (U){ 0 };
            }
            for (int64_t p = 0, some; p < pairs; p += some) {
                U bits[AT_ONCE][2];
                some = min64(AT_ONCE, pairs - p);
                for (int64_t i = 0; i < some; i++) {
                    const int64_t b = p + i + (p + i) / APART * APART;
                    u_draw(low, high, lane + (uint32_t)(b * CL), bits[i]);
                }
                for (int64_t i = 0; i < some; i++) {
                    const int64_t b = p + i + (p + i) / APART * APART;
                    V xi[2];
                    v_normals(bits[i], xi);
                    for (int64_t n = 0, c = b; n < 2 && c < blocks; n++, c += APART) {
                        real *x = chunk(to, t, of.r, c);
                        const V noise = xi[n] * v_weight((const real *)amplitude + c * CL);
                        v_store_lanes(x, add ? v_load(x) + noise : noise, lanes_of(&of));
                    }
                }
            }
        }
    }
}

/* A penalty of share (h - target)^2 of each of the columns: its gradient is added to dy, factor
   (h - target)^2 to the sum of each row. */
static void NAME(penalise)(int64_t columns, double target, double share, double factor,
                           const field *h, const field *dy, const span *at, double *sums) {
    for (int64_t t = at->t0; t < at->t1; t++) {
        const int64_t end = last_row(at, t);
        for (row_part of = first_vector(at->r0, end); of.vectors > 0; of = next_vector(&of, end)) {
            V sum = v_set(0);
            for (int64_t b = 0; b < blocks_of(columns); b++) {
                real *d = chunk(dy, t, of.r, b);
                V e = v_load(chunk(h, t, of.r, b)) - (real)target;
                for (int64_t j = columns - b * CL; j < CL; j++) e[j] = 0; /* the padding */
                v_store_lanes(d, v_load(d) + (real)(2 * share) * e, lanes_of(&of));
                sum += e * e;
            }
            for (int64_t j = 0; j < VL; j++) {
                const int64_t row = BY_ROWS ? of.r + j : of.r;
                if (row >= at->r0 && row < end) sums[row] += factor * (double)sum[j];
            }
        }
    }
}

/* Closed loop: with probability p the input of a step is the output of the step before.  back: in
   the backward pass that output gets the gradient of the input, and the data none (x holds
   dLoss/dx, y dLoss/dy). */
static void NAME(feed_back)(const dropout *d, const source *s, const field *y, const field *x,
                            const span *at, int back) {
    for (int64_t t = at->t0; t < at->t1; t++)
        for (int64_t r = at->r0; r < last_row(at, t); r++) {
            if (s->first + t == 0) continue;
            if (draw(draw_key(d, s, r, t, 0), 0) >= d->p * 4294967296.0) continue;
            for (int64_t b = 0; b < x->step / x->block; b++) {
                real *output = chunk(y, t - 1, r, b);
                real *input = chunk(x, t, r, b);
                if (back) {
                    w_store(output, w_load(output) + w_load(input));
                    w_store(input, (W){ 0 });
                } else {
                    w_store(input, w_load(output));
                }
            }
        }
}
