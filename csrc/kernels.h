/* kernels.h: assembles one instance (one dtype on one instruction set) and its table; or, where
   OWN_CELL names a cell, only the kernels of this cell. */
#include "frame.h"
#include "real.h"
#include "gemm.h"
#if BY_ROWS
#include "copies.h"
#else
#include "rows.h"
#endif
#include "batch.h"
#include "losses.h"
#include "optimizers.h"
#include "rules.h"
#if !BY_ROWS
#include "curvature.h"
#endif

#ifdef OWN_CELL
#define CELL OWN_CELL
#include "cell.h"
extern const cell_kernels *const NAME(own_cell);
const cell_kernels *const NAME(own_cell) = &CAT(CAT(OWN_CELL, _), NAME(kernels));
#else
#include "cells.def"

/* out = function(in), 0 exp, else 1 + ACT_...: the vector functions by themselves, for their
   tests. */
static void NAME(apply)(int function, const void *in, void *out, int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        const int64_t part = min64(VL, n - i);
        const V x = v_load_part((const real *)in + i, part);
        const V y = function == 0 ? v_exp(x) : v_act(function - 1, x);
        v_store_part((real *)out + i, y, part);
    }
}

/* The table of cells, in the order of cells.def. */
static const cell_kernels *const NAME(cells)[] = {
#define CELL_ROW(cell) CELL_ADDRESS(cell)
#define CELL_ADDRESS(cell) &NAME(cell##_kernels),
#include "cells.def"
    NULL
};
/* What plan.c chooses among, with the other instances. */
extern const kernels NAME(kernels);
const kernels NAME(kernels) = {
    .name = STRING(SUFFIX),
    .lanes = CL,
    .rows = RL,
    .bytes = sizeof(real),
    .cell = NAME(cells),
    .pack = NAME(pack),
    .unpack = NAME(unpack),
    .pack_transposed = NAME(pack_transposed),
    .forward = NAME(forward),
    .backward = NAME(backward),
    .collect = NAME(collect),
    .collect_bias = NAME(collect_bias),
#if !BY_ROWS
    .row_forward = NAME(row_forward),
    .row_backward = NAME(row_backward),
    .row_collect = NAME(row_collect),
#endif
    .gather = NAME(gather),
    .scatter = NAME(scatter),
    .load_state = NAME(load_state),
    .store_state = NAME(store_state),
    .sum_windows = NAME(sum_windows),
    .feed_back = NAME(feed_back),
    .copy_rows = NAME(copy_rows),
    .zero_rows = NAME(zero_rows),
    .activate = NAME(activate),
    .activate_backward = NAME(activate_backward),
    .multiply = NAME(multiply),
    .drop = NAME(drop),
    .noise = NAME(noise),
    .penalise = NAME(penalise),
    .loss = NAME(loss),
    .weight = NAME(weight),
    .leak = NAME(leak),
    .curvature = NAME(curvature),
    .norm2 = NAME(norm2),
    .is_small = NAME(is_small),
    .prepare = NAME(prepare),
    .clip_and_add_noise = NAME(clip_and_add_noise),
    .optimise = NAME(optimise),
    .optimise_within = NAME(optimise_within),
    .hold = NAME(hold),
    .zero_fixed = NAME(zero_fixed),
    .soft_threshold = NAME(soft_threshold),
    .project = NAME(project),
    .shrink_rows = NAME(shrink_rows),
    .square_columns = NAME(square_columns),
    .shrink_columns = NAME(shrink_columns),
#if BY_ROWS
    .spread = NAME(spread),
    .are_below = NAME(are_below),
    .set_numbers = NAME(set_numbers),
    .optimise_copies = NAME(optimise_copies),
    .norm2_of_copies = NAME(norm2_of_copies),
#else
    .gather_rows = NAME(gather_rows),
    .set_one_hot = NAME(set_one_hot),
    .element = NAME(element),
    .fill_row = NAME(fill_row),
    .outer_product = NAME(outer_product),
    .apply_chain_rule = NAME(apply_chain_rule),
    .gram = NAME(gram),
    .factor_rows = NAME(factor_rows),
    .solve_rows = NAME(solve_rows),
#endif
    .apply = NAME(apply),
};
#endif
