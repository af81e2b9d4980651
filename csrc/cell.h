/* cell.h: one cell of cells.def, CELL set.  Its file, its loops over time and its row of the table;
   or, where CELL_ROW is set, only CELL_ROW(its name). */
#ifdef CELL_ROW
CELL_ROW(CELL)
#else
#define C(x) CAT(CAT(CELL, _), x)
#include STRING(cells/CELL.h)

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

#if !OWN_LOOP
#include "scan.h"
#endif
#if !OWN_LOOP && !PEEPHOLES
#include "tangent.h"
#define TANGENT C(NAME(tangent))
#else
#define TANGENT NULL
#endif

static const cell_kernels C(NAME(kernels)) = {
    .name = STRING(CELL),
    .gates = GATES,
    .states = STATES,
    .gate_values = GATE_VALUES,
    .saved = SAVED,
    .separate_dzr = SEPARATE_DZR,
    .peepholes = PEEPHOLES,
    .activation = ACTIVATION,
    .projection = PROJECTION,
    .hidden_layers = HIDDEN_LAYERS,
    .keep_gate = KEEP_GATE,
    .two_products = TWO_PRODUCTS,
    .forward = C(NAME(scan_forward)),
    .backward = C(NAME(scan_backward)),
    .finish = C(NAME(scan_finish)),
    .collect = C(NAME(collect)),
    .tangent = TANGENT,
};

#undef C
#undef GATES
#undef STATES
#undef GATE_VALUES
#undef SAVED
#undef SEPARATE_DZR
#undef PASSES_STATE
#undef PEEPHOLES
#undef ACTIVATION
#undef PROJECTION
#undef HIDDEN_LAYERS
#undef KEEP_GATE
#undef OWN_LOOP
#undef TWO_PRODUCTS
#undef TANGENT
#endif
#undef CELL
