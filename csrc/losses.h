/* losses.h: loss of a row of predictions against its target, and in place of the predictions
   dLoss/dy.  Each loss of losses.def is one function here, of one output or of a row; with: its
   parameters.  The cross-entropies take logits.  The verbs' files, head.c above all, call the
   functions with NAME through the table of kernels. */
#include <math.h>

/* name_loss(with, p, y, dp): the loss of one output p with the target y; *dp: its derivative by p.
   name_curvature(with, p): its second derivative by p.
   Of several outputs of a target: name_loss(l, p, y, dp), p and dp (l->outputs). */

/* e^2,  e = p - y */
INLINE double mse_loss(const double *with, double p, double y, double *dp) {
    const double e = p - y;
    (void)with;
    *dp = 2 * e;
    return e * e;
}
INLINE double mse_curvature(const double *with, double p) {
    (void)with;
    (void)p;
    return 2;
}
/* |e| */
INLINE double mae_loss(const double *with, double p, double y, double *dp) {
    const double e = p - y;
    (void)with;
    *dp = (e > 0) - (e < 0);
    return fabs(e);
}
/* e^2 / 2 where |e| <= delta,  delta (|e| - delta / 2) elsewhere */
INLINE double huber_loss(const double *with, double p, double y, double *dp) {
    const double e = p - y, delta = with[0];
    *dp = e > delta ? delta : e < -delta ? -delta : e;
    return fabs(e) <= delta ? 0.5 * e * e : delta * (fabs(e) - 0.5 * delta);
}
/* exp(p) - y p: of a Poisson distribution with the rate exp(p), without log(y!) */
INLINE double poisson_loss(const double *with, double p, double y, double *dp) {
    const double rate = exp(p);
    (void)with;
    *dp = rate - y;
    return rate - y * p;
}
INLINE double poisson_curvature(const double *with, double p) {
    (void)with;
    return exp(p);
}
/* log(1 + exp(p)) - y p, without overflow */
INLINE double binary_cross_entropy_loss(const double *with, double p, double y, double *dp) {
    (void)with;
    *dp = 1 / (1 + exp(-p)) - y;
    return (p > 0 ? p : 0) - y * p + log1p(exp(-fabs(p)));
}
INLINE double binary_cross_entropy_curvature(const double *with, double p) {
    const double q = 0.5 + 0.5 * tanh(0.5 * p);
    (void)with;
    return q * (1 - q);
}
/* A loss of several outputs is a function by itself: wherever it is called from, the compiler rounds
   alike. */
#define TARGET_FUNCTION static __attribute__((noinline)) double

/* The mean over the quantiles q of max(q e, (q - 1) e),  e = y - p */
TARGET_FUNCTION pinball_loss(const chosen_loss *l, const double *p, double y, double *dp) {
    double sum = 0;
    for (int i = 0; i < l->outputs; i++) {
        const double e = y - p[i], q = l->parameter[i];
        dp[i] = ((e < 0) - q * (e != 0)) / l->outputs;
        sum += e < 0 ? (q - 1) * e : q * e;
    }
    return sum / l->outputs;
}
/* log(1 + exp(s)) without overflow, and its derivative by s */
INLINE double soft_plus(double s, double *slope) {
    *slope = 1 / (1 + exp(-s));
    return (s > 0 ? s : 0) + log1p(exp(-fabs(s)));
}
/* dt/tau = 1 / (1 + softplus(t)) of entry i of trained time constants, and its derivative by t */
static double NAME(leak)(const void *raw_tau, int64_t i, double *slope) {
    const double alpha = 1 / (1 + soft_plus(((const real *)raw_tau)[i], slope));
    *slope *= -alpha * alpha;
    return alpha;
}
/* pinball of quantiles that cannot cross:  p: the lowest, then increments,  quantile i = quantile i-1 +
   softplus(p[i]) */
TARGET_FUNCTION ordered_pinball_loss(const chosen_loss *l, const double *p, double y, double *dp) {
    double quantile[BPTT_MAX_LOSS_VALUES], slope[BPTT_MAX_LOSS_VALUES], above = 0;
    quantile[0] = p[0];
    slope[0] = 1;
    for (int i = 1; i < l->outputs; i++) quantile[i] = quantile[i - 1] + soft_plus(p[i], &slope[i]);
    const double loss = pinball_loss(l, quantile, y, dp);
    for (int i = l->outputs - 1; i >= 0; i--) {
        above += dp[i];
        dp[i] = above * slope[i];
    }
    return loss;
}
/* The scale of a distribution, never 0 */
INLINE double scale_of(double s, double *slope) { return soft_plus(s, slope) + 1e-6; }

/* log sigma + z^2 / 2,  z = (mu - y) / sigma;  p: mu, s;  sigma = softplus(s) + 1e-6 */
TARGET_FUNCTION gaussian_loss(const chosen_loss *l, const double *p, double y, double *dp) {
    double slope;
    const double sigma = scale_of(p[1], &slope), z = (p[0] - y) / sigma;
    (void)l;
    dp[0] = z / sigma;
    dp[1] = (1 - z * z) / sigma * slope;
    return log(sigma) + 0.5 * z * z;
}
/* log(2 sigma) + |z| */
TARGET_FUNCTION laplace_loss(const chosen_loss *l, const double *p, double y, double *dp) {
    double slope;
    const double sigma = scale_of(p[1], &slope), z = (p[0] - y) / sigma;
    (void)l;
    dp[0] = ((z > 0) - (z < 0)) / sigma;
    dp[1] = (1 - fabs(z)) / sigma * slope;
    return log(2 * sigma) + fabs(z);
}
/* log(1 + u) - u without cancellation: below 0.05 a series, with an error of 0.05^13 */
INLINE double log1p_less(double u) {
    double sum = 0;
    if (fabs(u) > 0.05) return log1p(u) - u;
    for (int n = 14; n > 2; n--) sum = u * (1.0 / n - sum);
    return -u * u * (0.5 - sum);
}
/* log gamma(x + d) - log gamma(x) - d log x for x > 0, d >= 0, and in *slope its derivative by x, less
   log1p(d / x) - d / x: by the asymptotic series, from x + n >= 12 downwards. */
INLINE double log_gamma_ratio(double x, double d, double *slope) {
    const double first = log1p(d / x);
    double loss = 0;
    *slope = 0;
    for (; x < 12; x++) {
        loss += d * log1p(1 / x) - log1p(d / x);
        *slope += d / (x * (x + d));
    }
    const double last = log1p(d / x);
    double series = 0, less = 0;
    for (int i = 0; i < 2; i++) { /* at x + d, and less that at x */
        const double r = 1 / (i ? x : x + d), q = r * r;
        const double value = r *
            (1. / 12 -
             q *
                 (1. / 360 -
                  q * (1. / 1260 - q * (1. / 1680 - q * (1. / 1188 - q * (691. / 360360))))));
        const double of_slope = q *
            (1. / 12 -
             q *
                 (1. / 120 -
                  q * (1. / 252 - q * (1. / 240 - q * (1. / 132 - q * (691. / 32760))))));
        series = value - series;
        less = of_slope - less;
    }
    *slope += last - first + d / (2 * x * (x + d)) + less;
    return loss + x * log1p_less(d / x) + (d - 0.5) * last - series;
}
/* -log of Student's density: log sigma + log(2 pi) / 2 - (log gamma(x + 1/2) - log gamma(x) - log(x) / 2)
   + (nu + 1) / 2 log1p(z^2 / nu),  x = nu / 2,  nu = 2 + softplus(p[2]) */
TARGET_FUNCTION student_t_loss(const chosen_loss *l, const double *p, double y, double *dp) {
    static const double half_log_2pi = 0.91893853320467274178;
    double slope, nu_slope, by_x;
    const double sigma = scale_of(p[1], &slope), z = (p[0] - y) / sigma;
    const double nu = 2 + soft_plus(p[2], &nu_slope), w = z * z / nu, x = nu / 2;
    const double ratio = log_gamma_ratio(x, 0.5, &by_x), by_z = (nu + 1) * (z / nu) / (1 + w);
    (void)l;
    dp[0] = by_z / sigma;
    dp[1] = (1 - z * by_z) / sigma * slope;
    dp[2] =
        0.5 * nu_slope * (log1p(w) - (nu + 1) / nu * (w / (1 + w)) - (by_x + log1p_less(0.5 / x)));
    return log(sigma) + half_log_2pi - ratio + 0.5 * (nu + 1) * log1p(w);
}
/* -log of the probability of y counts with the mean mu and the variance mu + alpha mu^2;
   mu = softplus(p[0]), alpha = softplus(p[1]) + 1e-6.  With r = 1 / alpha, u = alpha mu, v = alpha y:
   log y! - (log gamma(r + y) - log gamma(r) - y log r) - y log mu + (r + y) log1p(u) */
TARGET_FUNCTION negative_binomial_loss(const chosen_loss *l, const double *p, double y,
                                       double *dp) {
    double mu_slope, slope, by_r, unwanted;
    const double mu = soft_plus(p[0], &mu_slope), alpha = scale_of(p[1], &slope), r = 1 / alpha;
    const int tiny = p[0] < -50; /* there mu is exp(p), and may be 0 */
    const double log_mu = tiny ? p[0] : log(mu), by_log = tiny ? 1 : mu_slope / mu;
    const double u = alpha * mu, v = alpha * y;
    const double ratio = log_gamma_ratio(r, y, &by_r);
    (void)l;
    by_r += u < 1 && v < 1 ? log1p_less(v) - log1p_less(u) + u * (v - u) / (1 + u)
                           : log1p(v) - log1p(u) + (u - v) / (1 + u);
    dp[0] = mu_slope * (1 + v) / (1 + u) - y * by_log;
    dp[1] = r * r * by_r * slope;
    return log_gamma_ratio(1, y, &unwanted) - ratio - y * log_mu + (r + y) * log1p(u);
}
/* The columns [c, c + VL) of a row of outputs, -inf after the last one; and back. */
INLINE V columns_out(const real *row, int64_t block, int64_t c, int64_t outputs) {
    V v = BY_ROWS ? v_set(0) : v_load(row + c / VL * block);
    const int64_t n = min64(VL, outputs - c);
    for (int64_t j = 0; BY_ROWS && j < n; j++) v[j] = row[(c + j) * block];
    for (int64_t j = n; j < VL; j++) v[j] = -INFINITY;
    return v;
}
INLINE void columns_in(V v, real *row, int64_t block, int64_t c, int64_t outputs) {
    if (!BY_ROWS) v_store(row + c / VL * block, v);
    for (int64_t j = 0; BY_ROWS && j < min64(VL, outputs - c); j++) row[(c + j) * block] = v[j];
}
/* Softmax and its negative logarithm at the class; the row becomes `factor` (softmax - onehot).  With
   label_smoothing s the onehot target becomes (1 - s) onehot + s / outputs. */
INLINE double cross_entropy_row(const double *with, real *p, int64_t block, int64_t outputs,
                                int64_t class, double factor, int gradient) {
    V high = v_set(-INFINITY), sum = v_set(0);
    const double smoothing = with[0];
    double mean = 0;
    const real chosen = p[class / CL * block + class % CL];
    for (int64_t c = 0; smoothing > 0 && c < outputs; c++)
        mean += p[c / CL * block + c % CL] / (double)outputs;
    for (int64_t c = 0; c < outputs; c += VL) high = v_max(high, columns_out(p, block, c, outputs));
    real top = high[0], nan = 0;
    for (int i = 1; i < VL; i++) top = high[i] > top ? high[i] : top;
    for (int64_t c = 0; c < outputs; c += VL) {
        const V shifted = columns_out(p, block, c, outputs) - top;
        nan += v_sum(v_select(shifted != shifted, shifted, v_set(0))); /* exp below would hide it */
        const V e = v_select(shifted > -80, v_exp(shifted), v_set(0));
        sum += e;
        columns_in(e, p, block, c, outputs);
    }
    const double total = v_sum(sum), loss = log(total) + top - chosen + nan;
    if (gradient) {
        for (int64_t c = 0; c < outputs; c += CL) {
            real *q = p + c / CL * block;
            w_store(q, w_load(q) * (real)(factor / total));
        }
        p[class / CL * block + class % CL] -= (real)(factor * (1 - smoothing));
        for (int64_t c = 0; smoothing > 0 && c < outputs; c++)
            p[c / CL * block + c % CL] -= (real)(factor * smoothing / (double)outputs);
    }
    return smoothing > 0 ? loss + smoothing * (chosen - mean) : loss;
}
/* product = (diag(q) - q q') dy,  q = softmax(y) */
INLINE void cross_entropy_curvature_row(const double *with, int64_t outputs, const double *y,
                                        const double *dy, double *product) {
    double top = y[0], sum = 0, mean = 0;
    (void)with;
    for (int64_t c = 1; c < outputs; c++) top = y[c] > top ? y[c] : top;
    for (int64_t c = 0; c < outputs; c++) {
        product[c] = exp(y[c] - top);
        sum += product[c];
    }
    for (int64_t c = 0; c < outputs; c++) mean += product[c] / sum * dy[c];
    for (int64_t c = 0; c < outputs; c++) product[c] = product[c] / sum * (dy[c] - mean);
}

/* H dy, H being the second derivative by the outputs, as a multiple of that of mse, 2 / outputs. */
static void NAME(curvature)(const chosen_loss *l, int64_t outputs, const double *y,
                            const double *dy, double *product) {
    switch (l->kind) {
#define CURVATURE_UNCURVED(name)
#define CURVATURE_LEAST_SQUARES(name) CURVATURE_CURVED(name)
#define CURVATURE_CURVED(name)                                               \
    case LOSS_##name:                                                        \
        for (int64_t c = 0; c < outputs; c++)                                \
            product[c] = 0.5 * name##_curvature(l->parameter, y[c]) * dy[c]; \
        break;
#define ROW_CURVATURE_UNCURVED(name)
#define ROW_CURVATURE_CURVED(name)                                                 \
    case LOSS_##name:                                                              \
        name##_curvature_row(l->parameter, outputs, y, dy, product);               \
        for (int64_t c = 0; c < outputs; c++) product[c] *= 0.5 * (double)outputs; \
        break;
#define LOSS(name, targets, shape, ...) CURVATURE_##shape(name)
#define CLASS_LOSS(name, shape, ...) ROW_CURVATURE_##shape(name)
#include "losses.def"
    }
}
/* The weight of a target row. */
static double NAME(weight)(const void *weights, int64_t row) {
    return ((const real *)weights)[row];
}
/* The loss of one output; of the outputs of a target; and of a row with a class. */
typedef double output_loss(const double *with, double p, double y, double *dp);
typedef double target_loss(const chosen_loss *l, const double *p, double y, double *dp);
typedef double row_loss(const double *with, real *p, int64_t block, int64_t outputs, int64_t class,
                        double factor, int gradient);

/* i, of which the compiler knows nothing.  In a loop for which it could make several copies (for
   values that it knows, or in vectors), the same sum of products would be rounded in several ways:
   some copies would fuse products and additions that others do not. */
INLINE int hidden(int i) {
    __asm__("" : "+r"(i));
    return i;
}

/* Where the targets of row r begin, of which step t is the next, in rows of the caller's arrays; and
   the step after the last one. */
INLINE int64_t target_row(const loss_desc *l, const source *s, int64_t r, int64_t t) {
    return s->target_offset[s->row[r]] + l->shift + (l->every ? s->first + t : 0);
}
INLINE int64_t last_target(const loss_desc *l, const source *s, const span *at, int64_t r) {
    return l->every ? min64(at->t1, s->length[s->row[r]] - s->first) : at->t1;
}

/* The mean loss of the targets of a row of outputs, which become factor times its gradient. */
INLINE double mean_over_targets(target_loss *of_target, const chosen_loss *l, const real *target,
                                int64_t outputs, real *p, int64_t block, double factor,
                                int gradient) {
    const int64_t targets = outputs / l->outputs;
    double value[BPTT_MAX_LOSS_VALUES], slope[BPTT_MAX_LOSS_VALUES], e = 0;
    for (int64_t c = 0; c < targets; c++) {
        for (int64_t i = 0, o = c; i < l->outputs; i++, o += targets)
            value[i] = p[o / CL * block + o % CL];
        e += of_target(l, value, target[c], slope);
        for (int64_t i = 0, o = c; gradient && i < l->outputs; i++, o += targets)
            p[o / CL * block + o % CL] = (real)(slope[i] * (factor / (double)targets));
    }
    return e / (double)targets;
}

/* NAME(loss) for one row, from step t on, with one of the three functions given, as a constant. */
INLINE void add_row_losses(output_loss *of_output, target_loss *of_target, row_loss *of_row,
                           const loss_desc *l, const source *s, int64_t outputs, const field *y,
                           const span *at, int64_t r, int64_t t, double *sums, int gradient) {
    const int64_t end = last_target(l, s, at, r);
    double sum = sums ? sums[r] : 0;
    for (; t < end; t++) {
        const int64_t row = target_row(l, s, r, t);
        const double weight = s->weight ? (double)((const real *)s->weight)[row] : 1;
        const double factor = weight * l->scale;
        real *p = chunk(y, t, r, 0);
        if (weight == 0) { /* no target here: its row may hold anything */
            for (int64_t c = 0; gradient && c < outputs; c += CL)
                w_store(p + c / CL * y->block, (W){ 0 });
            continue;
        }
        if (of_row) {
            sum += weight *
                of_row(l->loss->parameter, p, y->block, outputs, s->classes[row], factor, gradient);
            continue;
        }
        if (of_target) {
            const real *target = (const real *)s->targets + row * (outputs / l->loss->outputs);
            sum += weight *
                mean_over_targets(of_target, l->loss, target, outputs, p, y->block, factor,
                                  gradient);
            continue;
        }
        const real *target = (const real *)s->targets + row * outputs;
        double e = 0, dp;
        for (int64_t c = 0; c < outputs; c++) {
            real unwanted, *q = p + c / CL * y->block + c % CL;
            e += of_output(l->loss->parameter, *q, target[c], &dp);
            *(hidden(gradient) ? q : &unwanted) = (real)(dp * (factor / outputs));
        }
        sum += weight * (e / outputs);
    }
    if (sums) sums[r] = sum;
}

/* A loop over the lanes, to be computed in vectors and not, before that, to be unrolled. */
#ifdef __clang__
#define LANES_FOR for
#else
#define LANES_FOR _Pragma("GCC unroll 1") for
#endif

/* The same for the rows of the vector r, at the steps that all of them have; the compiler takes the
   lanes at once, if the loss is simple enough.  Returns the first step that is left. */
INLINE int64_t add_vector_losses(output_loss *of_output, const loss_desc *l, const source *s,
                                 int64_t outputs, const field *y, const span *at, int64_t r,
                                 double *sums, int gradient) {
    const int64_t first = row_of_lane(at, r, 0), last = row_of_lane(at, r, VL - 1);
    const row_part part = first_vector(first, padded_row(at, last + 1));
    const real *weights[VL];
    double sum[VL] = { 0 }, weight[VL], factor[VL];
    int64_t end = at->t1;
    for (int64_t b = first; b <= last; b++) end = min64(end, last_target(l, s, at, b));
    row_reader targets;
    targets.count = (end - at->t0) * outputs;
    targets.next = 0;
    targets.at = VL;
    if (targets.count < VL) return at->t0;
    LANES_FOR (int j = 0; j < VL; j++) {
        const int64_t b = row_of_lane(at, r, j), row = target_row(l, s, b, at->t0);
        targets.row[j] = (const real *)s->targets + row * outputs;
        weights[j] = s->weight ? (const real *)s->weight + row : NULL;
        if (sums) sum[j] = sums[b];
        weight[j] = 1;
        factor[j] = l->scale / outputs;
    }
    const int64_t apart = y->block, step = y->step - outputs * apart;
    real *p = chunk(y, at->t0, r, 0);
    for (int64_t t = at->t0; t < end; t++, p += step) {
        double e[VL] = { 0 };
        for (int j = 0; s->weight && j < VL; j++) {
            weight[j] = weights[j][t - at->t0];
            factor[j] = weight[j] * l->scale / outputs;
        }
        for (int64_t c = 0; c < outputs; c++, p += apart) {
            real target[VL], slope[VL];
            v_store(target, read_next(&targets));
            LANES_FOR (int j = 0; j < VL; j++) {
                double dp;
                e[j] += of_output(l->loss->parameter, p[j], target[j], &dp);
                slope[j] = weight[j] == 0 ? 0 : (real)(dp * factor[j]);
            }
            if (gradient) v_store_lanes(p, v_load(slope), lanes_of(&part));
        }
        LANES_FOR (int j = 0; j < VL; j++)
            sum[j] += weight[j] * (weight[j] == 0 ? 0 : e[j] / outputs);
    }
    for (int64_t b = first; sums && b <= last; b++) sums[b] = sum[b - r];
    return end;
}

/* The classes of the lanes [from, to) at some steps, the first one `step`; -1 where the weight is 0, as
   there the class may be anything.  Of several steps at once: a vector cannot be loaded soon after
   its lanes are stored. */
enum { CLASS_STEPS = 16 };
INLINE void read_classes(const int64_t *const *classes, const real *const *weights, int from,
                         int to, int64_t step, int64_t steps, ireal (*label)[VL]) {
    for (int j = from; j < to; j++)
        for (int64_t q = 0; q < steps; q++) {
            const int counts = !weights[j] || weights[j][step + q] != 0;
            label[q][j] = counts ? (ireal)classes[j][step + q] : -1;
        }
}

/* The same for rows with a class, of the few outputs that a vector holds: what cross_entropy_row does,
   without label_smoothing, with a row in each lane. */
INLINE int64_t add_vector_classes(const loss_desc *l, const source *s, int64_t outputs,
                                  const field *y, const span *at, int64_t r, double *sums,
                                  int gradient) {
    const int64_t first = row_of_lane(at, r, 0), last = row_of_lane(at, r, VL - 1);
    const row_part part = first_vector(first, padded_row(at, last + 1));
    const int from = (int)(first - r), to = (int)(last - r) + 1; /* the lanes of rows */
    const int64_t *classes[VL];
    const real *weights[VL];
    double sum[VL] = { 0 }, weight[VL], loss[VL] = { 0 };
    int64_t end = at->t1;
    ireal labels[CLASS_STEPS][VL];
    if (outputs > VL || l->loss->parameter[0] > 0) return at->t0;
    for (int64_t b = first; b <= last; b++) end = min64(end, last_target(l, s, at, b));
    LANES_FOR (int j = 0; j < VL; j++) {
        const int64_t b = row_of_lane(at, r, j), row = target_row(l, s, b, at->t0);
        classes[j] = s->classes + row;
        weights[j] = s->weight ? (const real *)s->weight + row : NULL;
        if (sums) sum[j] = sums[b];
        weight[j] = 1;
    }
    memset(labels, -1, sizeof labels);
    for (int64_t t = at->t0; t < end; t++) {
        real *p = chunk(y, t, r, 0);
        V e[VL], high = v_set(-INFINITY), nan = v_set(0), total = v_set(0), chosen = v_set(0);
        real top[VL], of_class[VL], factor[VL], unseen[VL], of_label[VL];
        ireal is_counted[VL];
        VI label, counted;
        const int64_t step = t - at->t0, place = step % CLASS_STEPS;
        if (place == 0)
            read_classes(classes, weights, from, to, step, min64(CLASS_STEPS, end - t), labels);
        memcpy(&label, labels[place], sizeof label);
        for (int j = 0; s->weight && j < VL; j++) weight[j] = weights[j][step];
        for (int64_t c = 0; c < outputs; c++) high = v_max(high, v_load(p + c * y->block));
        for (int64_t c = 0; c < outputs; c++) {
            const V output = v_load(p + c * y->block), shifted = output - high;
            chosen = v_select(label == (ireal)c, output, chosen);
            nan += v_select(shifted != shifted, shifted, v_set(0));
            e[c] = v_select(shifted > -80, v_exp(shifted), v_set(0));
            total += e[c];
        }
        v_store(top, high);
        v_store(of_class, chosen);
        v_store(unseen, nan);
        for (int j = from; j < to; j++) loss[j] = log((double)total[j]);
        LANES_FOR (int j = 0; j < VL; j++) {
            const double of_row = loss[j] + top[j] - of_class[j] + unseen[j];
            sum[j] += weight[j] * (weight[j] == 0 ? 0 : of_row);
            factor[j] = (real)(weight[j] * l->scale / (double)total[j]);
            of_label[j] = (real)(weight[j] * l->scale);
            is_counted[j] = -(weight[j] != 0);
        }
        memcpy(&counted, is_counted, sizeof counted);
        for (int64_t c = 0; gradient && c < outputs; c++) {
            V slope = e[c] * v_load(factor);
            __asm__("" : "+m"(slope)); /* rounded: the row by itself is */
            slope = v_select(label == (ireal)c, slope - v_load(of_label), slope);
            v_store_lanes(p + c * y->block, v_select(counted, slope, v_set(0)), lanes_of(&part));
        }
    }
    for (int64_t b = first; sums && b <= last; b++) sums[b] = sum[b - r];
    return max64(end, at->t0); /* a row may have ended before */
}

/* NAME(loss) for all rows; BY_ROWS a vector of them at a time, if there is of_vector, the same as
   of_output, or each row has a class. */
INLINE void add_losses(output_loss *of_vector, output_loss *of_output, target_loss *of_target,
                       row_loss *of_row, const loss_desc *l, const source *s, int64_t outputs,
                       const field *y, const span *at, double *sums, int gradient) {
    for (int64_t r = at->r0, end; r < at->r1; r = end) {
        const int64_t vector = r / RL * RL;
        int64_t t = at->t0;
        end = min64(vector + RL, at->r1);
        if (BY_ROWS && of_vector)
            t = add_vector_losses(of_vector, l, s, outputs, y, at, vector, sums, gradient);
        if (BY_ROWS && of_row) t = add_vector_classes(l, s, outputs, y, at, vector, sums, gradient);
        for (int64_t b = r; b < end; b++)
            add_row_losses(of_output, of_target, of_row, l, s, outputs, y, at, b, t, sums,
                           gradient);
    }
}

/* Adds the weighted losses of each row's steps to sums (B) or, if it is NULL, nowhere: steps t0 ..
   t1, or with one target per sequence just once.  Always in the order of time, so that blocks do not
   matter.  gradient: 1: y becomes dLoss/dy.  Each thread calls it for its own rows. */
static NOINLINE void NAME(loss)(const loss_desc *l, const source *s, int64_t outputs,
                                const field *y, const span *at, double *sums, int gradient) {
    output_loss *of_output = NULL; /* those with exp, and of several outputs, share one loop */
    target_loss *of_target = NULL;
    switch (l->loss->kind) {
#define LOSS(name, targets, shape, ...) CASE_##shape(name)
#define TARGET_LOSS(name, ...)   \
    case LOSS_##name:            \
        of_target = name##_loss; \
        break;
#define CLASS_LOSS(name, ...) CASE(name, NULL, NULL, name##_row)
#define CASE_LEAST_SQUARES(name) CASE(name, name##_loss, name##_loss, NULL)
#define CASE_UNCURVED(name) CASE_LEAST_SQUARES(name)
#define CASE_CURVED(name)        \
    case LOSS_##name:            \
        of_output = name##_loss; \
        break;
#define CASE(name, of_vector, of_output, of_row)                                              \
    case LOSS_##name:                                                                         \
        add_losses(of_vector, of_output, NULL, of_row, l, s, outputs, y, at, sums, gradient); \
        return;
#include "losses.def"
    }
    add_losses(NULL, of_output, of_target, NULL, l, s, outputs, y, at, sums, gradient);
}

#if BY_ROWS
/* The loss of VL copies of a network and of one target row, that of the sequence of row 0, for a
   mean of squares: all lanes at once.  loss (VL). */
INLINE void add_squared_errors(output_loss *of_output, const loss_desc *l, const source *s,
                               int64_t outputs, const field *y, double *loss) {
    const int64_t row = s->target_offset[s->row[0]] + l->shift;
    const double weight = s->weight ? (double)((const real *)s->weight)[row] : 1;
    const double factor = weight * l->scale / outputs;
    const real *target = (const real *)s->targets + row * outputs;
    double e[VL] = { 0 };
    for (int64_t c = 0; c < outputs; c++) {
        real *p = (real *)y->p + c * y->block, slope[VL];
        const double at = target[c];
        for (int j = 0; j < VL; j++) {
            double dp;
            e[j] += of_output(NULL, p[j], at, &dp);
            slope[j] = (real)(dp * factor);
        }
        v_store(p, v_load(slope));
    }
    if (outputs > 1) /* a division takes long */
        for (int j = 0; j < VL; j++) e[j] /= outputs;
    for (int j = 0; j < VL; j++) loss[j] = weight * e[j];
}
/* The loss of each copy (VL) and, in place of the predictions, its gradient.  Most losses row by row:
   in vectors the compiler fuses other products with additions. */
static void NAME(loss_of_copies)(const loss_desc *l, const source *s, int64_t outputs,
                                 const field *y, double *loss) {
    const span all = { .t1 = 1, .r1 = VL };
    switch (l->loss->kind) {
#define COPIES_UNCURVED(name)
#define COPIES_CURVED(name)
#define COPIES_LEAST_SQUARES(name)                               \
    case LOSS_##name:                                            \
        add_squared_errors(name##_loss, l, s, outputs, y, loss); \
        return;
#define LOSS(name, targets, shape, ...) COPIES_##shape(name)
#include "losses.def"
    }
    for (int r = 0; r < VL; r++) loss[r] = 0;
    NAME(loss)(l, s, outputs, y, &all, loss, 1);
}
#endif
