/* own_cell.h: the table of a cell that is compiled by itself, for bptt_desc.own_cell.  Its library has

     each of the files csrc/instances/<instance>.c that it wants, compiled with -D OWN_CELL=<cell> and
     a folder among those of -I that has cells/<cell>.h, the mathematics;
     one file that says X(f32_avx2) X(f64_avx2) ... of these as EACH_INSTANCE(X), and includes this
     one;

   all with -D BPTT_INTERFACE as the library that is to run it.  docs/own_cell.md, "From C". */
#include "frame.h"

#define DECLARE_INSTANCE(name) extern const cell_kernels *const own_cell_##name;
EACH_INSTANCE(DECLARE_INSTANCE)
#define INSTANCE_ROW(name) { #name, &own_cell_##name },
static const own_instance instances[] = { EACH_INSTANCE(INSTANCE_ROW){ NULL, NULL } };
extern const bptt_own_cell bptt_own_cell_table;
const bptt_own_cell bptt_own_cell_table = { BPTT_INTERFACE, instances };
