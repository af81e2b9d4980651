/* One line a cell: the table of kernels, the names and the tests are made from this list. */
CELL_ROW(elman)
CELL_ROW(gru)
CELL_ROW(lstm)
CELL_ROW(mlp)
CELL_ROW(peephole)
CELL_ROW(reset_before)
