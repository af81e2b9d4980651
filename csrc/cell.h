/* cell.h: one cell of cells.def, CELL set.  Its file, its loops over time and its row of the table;
   or, where CELL_ROW is set, only CELL_ROW(its name).

   What a cell has is said by macros, here with what holds where its file does not set them:

     GATES, STATES     gates, and states: 1 (h) or 2 (h and c); every file sets them
     GATE_VALUES       vectors per unit, at most GATES, that the backward pass needs from the
                       forward one and that take the place of zx: frame.gate_values
     SAVED             vectors per unit that it needs besides: frame.saved
     SEPARATE_DZR      1: dzr differs from dzx, and has a field of its own
     PASSES_STATE      1: a part of dLoss/dh[t-1] does not come through zr; it is left in ds[0]
     PEEPHOLES         weights per unit besides the products
     PEEPHOLE_TERMS    for each { gate, state, after }: its gradient is the sum of dz of the gate times
                       the state (0 h, 1 c) before the step or, after 1, behind it
     LEAK              1: a number alpha per unit follows these in `peep`, and in the backward pass the
                       slope of log(amplitude of its noise) by alpha; the last of the states is the noise
                       that is to be added to it, or 0, on entry; dLoss/dalpha follows the gates in dzr
     LEAK_VALUES       1: of what the forward pass leaves, the backward pass reads h alone, unless for
                       dLoss/dalpha
     FOLLOWS           1: h = act(c) at every step, so that c alone is the state of a sequence
     ACTIVATION        1: `act` is the user's choice
     PROJECTION        1: h may be a projection W_hr m
     HIDDEN_LAYERS     1: f may have hidden layers
     KEEP_GATE         the gate that keeps the past, for forget_bias; -1: none
     OWN_LOOP          1: the file has its loops over time, <cell>_scan_forward, ... _collect
     TWO_PRODUCTS      1: the recurrent weights are two matrices
     RECURRENT         0: there is no recurrent product, zr and its weights: a unit reads only its own
                       state, and PASSES_STATE is 1 */
#ifdef CELL_ROW
CELL_ROW(CELL)
#else
#define C(x) CAT(CAT(CELL, _), x)
/* it would put spaces around the slash: */
/* clang-format off */
#include STRING(cells/CELL.h)
/* clang-format on */

#if !defined(GATES) || !defined(STATES)
#error "expected the cell's file to define GATES and STATES"
#endif
#ifndef GATE_VALUES
#define GATE_VALUES 0
#endif
#ifndef SAVED
#define SAVED 0
#endif
#ifndef SEPARATE_DZR
#define SEPARATE_DZR 0
#endif
#ifndef PASSES_STATE
#define PASSES_STATE 0
#endif
#ifndef PEEPHOLES
#define PEEPHOLES 0
#endif
#ifndef LEAK
#define LEAK 0
#endif
#ifndef LEAK_VALUES
#define LEAK_VALUES 0
#endif
#ifndef FOLLOWS
#define FOLLOWS 0
#endif
#ifndef ACTIVATION
#define ACTIVATION 0
#endif
#ifndef PROJECTION
#define PROJECTION 0
#endif
#ifndef HIDDEN_LAYERS
#define HIDDEN_LAYERS 0
#endif
#ifndef KEEP_GATE
#define KEEP_GATE -1
#endif
#ifndef OWN_LOOP
#define OWN_LOOP 0
#endif
#ifndef TWO_PRODUCTS
#define TWO_PRODUCTS 0
#endif
#ifndef RECURRENT
#define RECURRENT 1
#endif

_Static_assert(GATES >= 1 && GATES <= PANEL_MAX, "expected GATES from 1 to 4");
_Static_assert(STATES == 1 || STATES == 2, "expected STATES 1 or 2");
_Static_assert(GATE_VALUES >= 0 && GATE_VALUES <= GATES, "expected GATE_VALUES from 0 to GATES");
_Static_assert(SAVED >= 0 && PEEPHOLES >= 0, "expected SAVED and PEEPHOLES of at least 0");
_Static_assert(KEEP_GATE >= -1 && KEEP_GATE < GATES, "expected KEEP_GATE below GATES");
_Static_assert(RECURRENT || PASSES_STATE, "expected PASSES_STATE 1 with RECURRENT 0");

/* The loops over time; tangents of the cells that have them; patterns only of those of one gate and
   without a leak, which is rarely trained online, to keep the library small, and of none that is
   compiled by itself, which takes half the time so. */
#if !OWN_LOOP
#include "scan.h"
#endif
#if !OWN_LOOP && !PEEPHOLES && RECURRENT && !BY_ROWS
#include "tangent.h"
#define TANGENT(function) C(NAME(function))
#else
#define TANGENT(function) NULL
#endif
#if !OWN_LOOP && !PEEPHOLES && RECURRENT && GATES == 1 && !LEAK && !defined(OWN_CELL)
#include "pattern.h"
#define PATTERN(function) C(NAME(function))
#else
#define PATTERN(function) NULL
#endif

/* Its row of the table. */
static const cell_kernels C(NAME(kernels)) = {
    .name = STRING(CELL),
    .gates = GATES,
    .states = STATES,
    .gate_values = GATE_VALUES,
    .saved = SAVED,
    .separate_dzr = SEPARATE_DZR,
    .peepholes = PEEPHOLES,
    .leak = LEAK,
    .leak_values = LEAK_VALUES,
    .follows = FOLLOWS,
    .activation = ACTIVATION,
    .projection = PROJECTION,
    .hidden_layers = HIDDEN_LAYERS,
    .keep_gate = KEEP_GATE,
    .two_products = TWO_PRODUCTS,
    .recurrent = RECURRENT,
    .splits_units = !OWN_LOOP && RECURRENT,
    .forward = C(NAME(scan_forward)),
    .backward = C(NAME(scan_backward)),
    .finish = C(NAME(scan_finish)),
    .collect = C(NAME(collect)),
    .tangent = TANGENT(tangent),
    .gradient_of_pattern = PATTERN(gradient_of_pattern),
    .advance = PATTERN(advance),
};

#undef C
#undef GATES
#undef STATES
#undef GATE_VALUES
#undef SAVED
#undef SEPARATE_DZR
#undef PASSES_STATE
#undef PEEPHOLES
#undef PEEPHOLE_TERMS
#undef LEAK
#undef LEAK_VALUES
#undef FOLLOWS
#undef ACTIVATION
#undef PROJECTION
#undef HIDDEN_LAYERS
#undef KEEP_GATE
#undef OWN_LOOP
#undef TWO_PRODUCTS
#undef RECURRENT
#undef TANGENT
#undef PATTERN
#endif
#undef CELL
