"""The pool of threads, delayed where a thread has seen that there is a new job but not yet which one."""

import shutil
import subprocess

import pytest
from support import pool_model
from support.cases import ROOT

DELAY = """
#include <time.h>
static void delay(void) {
    static _Thread_local unsigned seed = 1;
    seed = seed * 1103515245u + 12345u;
    const struct timespec pause = { 0, (long)(seed >> 16) % 4 * 300000 };
    nanosleep(&pause, 0);
}
"""
DRIVER = """
#include "threads.h"
#include <stdatomic.h>
#include <stdio.h>

static atomic_int parts[THREADS_MAX], early;

static void job(void *context, team *t, int rank, int size) {
    (void)context;
    atomic_fetch_add(&parts[rank], 1);
    team_barrier(t);
    for (int i = 0; i < size; i++) early += parts[i] != 1;
    team_barrier(t);
    atomic_store(&parts[rank], 0);
}
int main(void) {
    for (int i = 0; i < 60; i++) {
        team_run(2, job, 0);
        team_run(8, job, 0);
        team_run(5, job, 0);
    }
    printf("%d", early);
    return early != 0;
}
"""


def test_jobs_of_changing_size_end(tmp_path):
    """Every rank takes part once in each job, however late it reads which job is the present one."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source = (ROOT / "csrc" / "threads.c").read_text()
    for line in (
        "        wait_change(&pool.job, job);\n",
        "        if (atomic_load(&pool.quit)) return NULL;\n",
    ):
        assert line in source
        source = source.replace(line, f"{line}        delay();\n")
    include = '#include "threads.h"\n'
    (tmp_path / "threads.c").write_text(source.replace(include, include + DELAY, 1))
    (tmp_path / "driver.c").write_text(DRIVER)
    program = tmp_path / "driver"
    subprocess.run(
        [
            compiler,
            "-std=c11",
            "-O1",
            f"-I{ROOT / 'csrc'}",
            "threads.c",
            "driver.c",
            "-pthread",
            "-o",
            program,
        ],
        cwd=tmp_path,
        check=True,
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == "0", done.stdout


@pytest.mark.parametrize("sizes", ((2, 3), (3, 2), (2, 2, 3), (3, 3), (2, 3, 2)), ids=str)
def test_all_interleavings_of_three_threads(sizes):
    """In a model of the pool: each rank takes part once, no barrier opens early, and all threads end."""
    assert pool_model.search(sizes) > 100


def test_the_model_finds_a_size_that_is_read_late():
    """The fault that the pool once had: a job's number and the size of its team in two words."""
    with pytest.raises(pool_model.FaultError):
        pool_model.search((2, 3), one_word=False)
