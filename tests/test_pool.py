"""The pool of threads in C, delayed at random between those reads and writes whose order matters."""

import shutil
import subprocess

import pytest
from support import pool_model
from support.cases import ROOT

# random pauses of up to a millisecond, most of them none
DELAY = """
#include <time.h>
static void delay(void) {
    static _Thread_local unsigned seed = 1;
    seed = seed * 1103515245u + 12345u + (unsigned)(size_t)&seed;
    const struct timespec pause = { 0, (long)(seed >> 16) % 4 * LONGEST };
    if (pause.tv_nsec) nanosleep(&pause, 0);
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
        const int sizes[] = { 2, 8, 5 };
        for (int n = 0; n < 3; n++) {
            crew crew = { .wanted = sizes[n] };
            team_run(&crew, job, 0);
        }
    }
    printf("%d", early);
    return early != 0;
}
"""
# a crew whose threads wait most of the time, then never: its sizes, where they change
ADAPTING = """
#include "threads.h"
#include <stdio.h>
#include <time.h>

static int size_of_run;
static void sleep_ms(long ms) {
    const struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&pause, 0);
}
static void crowded(void *context, team *t, int rank, int size) {
    (void)context;
    for (int i = 0; i < size; i++) { /* one works, the others wait */
        if (i == rank) sleep_ms(2);
        team_barrier(t);
    }
    if (rank == 0) size_of_run = size;
}
static void quiet(void *context, team *t, int rank, int size) {
    (void)context;
    sleep_ms(2);
    team_barrier(t);
    if (rank == 0) size_of_run = size;
}
static void print_sizes(crew *c, team_function work, int until) {
    int last = 0;
    for (int i = 0; i < 1000 && last != until; i++) {
        team_run(c, work, 0);
        if (size_of_run != last) printf("%d ", size_of_run);
        last = size_of_run;
    }
}
int main(void) {
    crew crew = { .wanted = 4 };
    print_sizes(&crew, quiet, 4);
    print_sizes(&crew, crowded, 1);
    print_sizes(&crew, quiet, 4);
    return 0;
}
"""


def run_in_c(folder, driver, delays=(), longest=300000, changes=(), flags=(), timeout=120):
    """Compile the pool with a driver, a delay after each line of `delays`, and run it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    include = "#include <stdatomic.h>\n"
    for name in ("threads.c", "system.h", "wait.h", "threads.h"):
        source = (ROOT / "csrc" / name).read_text()
        for file, line in delays:
            if file == name:
                assert line in source, line
                source = source.replace(line, f"{line} delay();")
        for file, old, new in changes:
            if file == name:
                assert old in source, old
                source = source.replace(old, new)
        if name == "wait.h":
            source = source.replace(include, include + DELAY.replace("LONGEST", str(longest)), 1)
        (folder / name).write_text(source)
    (folder / "driver.c").write_text(driver)
    program = folder / "driver"
    command = [
        compiler,
        "-std=gnu11",
        "-O1",
        *flags,
        "threads.c",
        "driver.c",
        "-pthread",
        "-lm",
        "-o",
        program,
    ]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if built.returncode and "-fsanitize=thread" in flags:
        pytest.skip("this compiler has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    return subprocess.run([program], capture_output=True, text=True, timeout=timeout)


def test_jobs_of_changing_size_end(tmp_path):
    """Every rank takes part once in each job, however late it reads which job is the present one."""
    delays = (
        ("threads.c", "wait_change(&pool.job, job);"),
        ("threads.c", "if (atomic_load(&pool.quit)) return NULL;"),
    )
    done = run_in_c(tmp_path, DRIVER, delays)
    assert done.returncode == 0 and done.stdout == "0", done.stdout


@pytest.mark.parametrize("sizes", ((2, 3), (3, 2), (2, 2, 3), (3, 3), (2, 3, 2)), ids=str)
def test_all_interleavings_of_three_threads(sizes):
    """In a model of the pool: each rank takes part once, no barrier opens early, and all threads end."""
    assert pool_model.search(sizes) > 100


def test_the_model_finds_a_size_that_is_read_late():
    """The fault that the pool once had: a job's number and the size of its team in two words."""
    with pytest.raises(pool_model.FaultError):
        pool_model.search((2, 3), one_word=False)


# where a wake-up could get lost: between the count of sleepers and the last read, and the reverse
RACES = (
    ("wait.h", "atomic_fetch_add(&w->sleepers, 1);"),
    ("wait.h", "atomic_fetch_add(&w->value, by);"),
)
AT_ONCE = ("threads.c", "SPIN_SECONDS = 50e-6", "SPIN_SECONDS = -1")
NO_LOOK = ("threads.c", "LOOKS = 64", "LOOKS = 1")
ELSEWHERE = ("wait.h", "#ifdef __linux__", "#if 0")


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "thread sanitizer"])
@pytest.mark.parametrize("changes", [(), (ELSEWHERE,)], ids=["this system", "condition variable"])
def test_no_wake_up_is_lost(tmp_path, changes, sanitize):
    """Threads that sleep at once, whatever happens between two steps of falling asleep, all wake."""
    flags = ("-fsanitize=thread", "-g") if sanitize else ()
    done = run_in_c(tmp_path, DRIVER, RACES, 100000, (*changes, AT_ONCE, NO_LOOK), flags)
    assert done.returncode == 0 and done.stdout == "0", done.stderr


@pytest.mark.slow
def test_lost_wake_up_is_noticed(tmp_path):
    """The delays above are where it counts: a waker that looks for sleepers first leaves one asleep."""
    wrong = (
        "wait.h",
        "atomic_fetch_add(&w->value, by);\n    if (atomic_load(&w->sleepers)) wake_all(w);",
        "const unsigned n = atomic_load(&w->sleepers); delay();"
        " atomic_fetch_add(&w->value, by); if (n) wake_all(w);",
    )
    with pytest.raises(subprocess.TimeoutExpired):
        run_in_c(
            tmp_path, DRIVER.replace("i < 60", "i < 6000"), (), 100000, (wrong, AT_ONCE, NO_LOOK), timeout=10
        )


def test_crew_adapts_to_waiting(tmp_path):
    """Fewer threads while they wait for each other; as many as wanted again when they no longer do."""
    done = run_in_c(tmp_path, ADAPTING)
    assert done.stdout.split() == ["4", "4", "2", "1", "1", "2", "4"]
