/* losses.h: loss of a row of predictions against its target, and in place of the predictions dLoss/dy.
   mse, mae, huber and binary_cross_entropy are means over the O outputs; both cross-entropies take logits. */
#include <math.h>
enum { LOSS_MSE, LOSS_MAE, LOSS_HUBER, LOSS_CROSS_ENTROPY, LOSS_BINARY_CROSS_ENTROPY };

/* One output: the loss, and its derivative by the prediction p. */
INLINE double loss_of(int kind, double p, double y, double *dp) {
    const double e = p - y;
    switch (kind) {
    case LOSS_MSE: *dp = 2 * e; return e * e;
    case LOSS_MAE: *dp = (e > 0) - (e < 0); return fabs(e);
    case LOSS_HUBER: *dp = e > 1 ? 1 : e < -1 ? -1 : e; return fabs(e) <= 1 ? 0.5 * e * e : fabs(e) - 0.5;
    default:                                              /* log(1 + e^p) - y p, without overflow */
        *dp = 1 / (1 + exp(-p)) - y;
        return (p > 0 ? p : 0) - y * p + log1p(exp(-fabs(p)));
    }
}
/* Softmax and its negative logarithm at the class; the row becomes `factor` (softmax - onehot). */
INLINE double cross_entropy_row(real *p, int64_t block, int64_t outputs, int64_t class, double factor, int gradient) {
    V high = v_set(-INFINITY), sum = v_set(0);
    const real chosen = p[class / VL * block + class % VL];
    for (int64_t c = 0; c < outputs; c += VL) {
        real *q = p + c / VL * block;
        for (int64_t j = outputs - c; j < VL; j++) q[j] = -INFINITY;
        high = v_max(high, v_load(q));
    }
    real top = high[0], nan = 0;
    for (int i = 1; i < VL; i++) top = high[i] > top ? high[i] : top;
    for (int64_t c = 0; c < outputs; c += VL) {
        real *q = p + c / VL * block;
        const V shifted = v_load(q) - top;
        nan += v_sum(v_select(shifted != shifted, shifted, v_set(0)));   /* exp below would hide it */
        const V e = v_select(shifted > -80, v_exp(shifted), v_set(0));
        sum += e;
        v_store(q, e);
    }
    const double total = v_sum(sum), loss = log(total) + top - chosen + nan;
    if (gradient) {
        for (int64_t c = 0; c < outputs; c += VL) {
            real *q = p + c / VL * block;
            v_store(q, v_load(q) * (real)(factor / total));
        }
        p[class / VL * block + class % VL] -= (real)factor;
    }
    return loss;
}
static double NAME(weight)(const void *weights, int64_t row) { return ((const real *)weights)[row]; }
/* Adds the weighted losses of each row's steps to row_loss (B) or, if it is NULL, nowhere: steps t0 .. t1, or with one target a
   sequence just once.  Always in the order of time, so that blocks do not matter. */
static void NAME(loss)(const loss_desc *l, const source *s, int64_t outputs, const field *y, const span *at, double *row_loss,
                       int gradient) {
    for (int64_t r = at->r0; r < at->r1; r++) {
        const int64_t i = s->row[r], steps = l->every ? least(at->t1, s->length[i] - s->first) : at->t1;
        double sum = row_loss ? row_loss[r] : 0;
        for (int64_t t = at->t0; t < steps; t++) {
            const int64_t row = s->target_offset[i] + l->shift + (l->every ? s->first + t : 0);
            const double weight = s->weight ? (double)((const real *)s->weight)[row] : 1, factor = weight * l->scale;
            real *p = chunk(y, t, r, 0);
            if (weight == 0) {                            /* no target here: its row may hold anything */
                if (gradient) for (int64_t c = 0; c < outputs; c += VL) v_store(p + c / VL * y->block, v_set(0));
                continue;
            }
            if (l->kind == LOSS_CROSS_ENTROPY) {
                sum += weight * cross_entropy_row(p, y->block, outputs, s->classes[row], factor, gradient);
                continue;
            }
            const real *target = (const real *)s->targets + row * outputs;
            double e = 0, dp;
            for (int64_t c = 0; c < outputs; c++) {
                real *q = p + c / VL * y->block + c % VL;
                e += loss_of(l->kind, *q, target[c], &dp);
                if (gradient) *q = (real)(dp * (factor / outputs));
            }
            sum += weight * (e / outputs);
        }
        if (row_loss) row_loss[r] = sum;
    }
}
