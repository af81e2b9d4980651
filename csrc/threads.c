/* threads.c: the pool of threads.  It is made at the first run that wants it, made again in a child
   process after fork, and joined at exit.  Waiting is a short spin, then sleep (wait.h), so that
   idle threads cost nothing and a busy machine is not held up.

   Where other processes want the cores, a thread that has lost its core holds up all others at the
   next barrier, and the team can be slower than one thread.  So a crew, the threads of one
   caller's runs, measures how long its threads wait, and works with fewer while that is so.

   A job is a function that every rank runs once.  The caller is rank 0; rank r > 0 is thread r.
   The pool's own fields are written by the caller that holds `busy`, between two jobs. */
#define _GNU_SOURCE
#include "threads.h"
#include "system.h"
#include "wait.h"
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

/* PAUSE: to the processor, that this is a spin.  begin_arithmetic: this thread rounds to the nearest
   number, treats denormals as zero and has no floating-point traps from now on, whatever its
   caller's mode is; returns what end_arithmetic needs to restore that mode. */
#if defined(__x86_64__)
#include <xmmintrin.h>
#define PAUSE() _mm_pause()
typedef unsigned float_mode;
static float_mode begin_arithmetic(void) {
    const unsigned old = _mm_getcsr();
    _mm_setcsr(0x9fc0);
    return old;
}
static void end_arithmetic(float_mode old) { _mm_setcsr(old); }
#define USUAL_MODE 0x1f80
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
typedef uint64_t float_mode;
static float_mode begin_arithmetic(void) {
    uint64_t old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));
    return old;
}
static void end_arithmetic(float_mode old) { __asm__ volatile("msr fpcr, %0" : : "r"(old)); }
#define USUAL_MODE 0
#else
#define PAUSE() (void)0
typedef int float_mode;
static float_mode begin_arithmetic(void) { return 0; }
static void end_arithmetic(float_mode old) { (void)old; }
#define USUAL_MODE 0
#endif

/* Looks at a word between two of the clock; seconds of looking before a thread sleeps, about what it
   costs to wake one. */
enum { LOOKS = 64 };
static const double SPIN_SECONDS = 50e-6;

/* Of a crew, in seconds of its runs: what a decision is based on; until more threads are tried
   again, first and at most. */
static const double WINDOW = 0.01, FIRST_RETRY = 0.1, LAST_RETRY = 1.6;

/* Part of their time that the threads of a crew may wait: measured, docs/decisions/0034. */
static const double MOST_WAITING = 0.4;

/* A job is one word, so that a thread never takes the number of one job with the team of another:
   its number above, the size of its team in the lowest bits. */
enum { SIZE_BITS = 8 };
static inline unsigned next_job(unsigned job, int size) {
    return ((job >> SIZE_BITS) + 1) << SIZE_BITS | (unsigned)size;
}
static inline int size_of_job(unsigned job) { return (int)(job & ((1u << SIZE_BITS) - 1)); }

struct team {
    atomic_int size;
    atomic_uint arrived; /* ranks at the present barrier */
    word round; /* barriers that have opened */
};

/* The calling program's threads; parallel NULL: there are none.  See team_use_host. */
static struct {
    _Atomic(host_parallel) parallel;
    host_size size;
} host;

static struct {
    pthread_t thread[THREADS_MAX];
    int threads; /* that run */
    int allowed; /* 1: threads may be started */
    unsigned born; /* the job that new threads have no part in */
    atomic_int busy; /* 1: a caller has the pool */
    atomic_int quit; /* 1: threads return */
    word job; /* the present job; see next_job */
    word unfinished; /* ranks still in it */
    atomic_int next; /* the next rank of a host's thread */
    double waited[THREADS_MAX]; /* seconds, of each rank in the last job */
    team team;
    team_function function;
    void *context;
} pool;

/* Seconds that this thread has waited in the present job, but for waits of a few looks. */
static _Thread_local double waited;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 1: the word differs from old, seen at one of some looks. */
static int has_changed(word *w, unsigned old) {
    for (int i = 0; i < LOOKS; i++) {
        if (atomic_load_explicit(&w->value, memory_order_acquire) != old) return 1;
        PAUSE();
    }
    return 0;
}

/* Waits until the word differs from old: spins a little, then sleeps. */
static void wait_change(word *w, unsigned old) {
    if (has_changed(w, old)) return;
    const double begin = now();
    int changed = 0;
    while (!changed && now() - begin < SPIN_SECONDS) changed = has_changed(w, old);
    if (!changed) sleep_while(w, old);
    waited += now() - begin;
}

/* Returns when all ranks have called it.  What they wrote before is visible after. */
void team_barrier(team *t) {
    const unsigned size = (unsigned)atomic_load_explicit(&t->size, memory_order_relaxed);
    if (size == 1) return;
    const unsigned round = atomic_load_explicit(&t->round.value, memory_order_acquire);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == size) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        change(&t->round, 1);
    } else
        wait_change(&t->round, round);
}

/* The present job, as one rank. */
static void take_part(int rank) {
    const float_mode old = begin_arithmetic();
    waited = 0;
    pool.function(pool.context, &pool.team, rank, atomic_load(&pool.team.size));
    pool.waited[rank] = waited;
    end_arithmetic(old);
}

/* A thread of the pool: takes part in each job that has its rank. */
static void *worker(void *argument) {
    const int rank = (int)(intptr_t)argument;
    unsigned job = pool.born;
    for (;;) {
        wait_change(&pool.job, job);
        job = atomic_load_explicit(&pool.job.value, memory_order_acquire);
        if (atomic_load(&pool.quit)) return NULL;
        if (rank < size_of_job(job)) {
            take_part(rank);
            change(&pool.unfinished, -1u);
        }
    }
}

/* Ends all threads of the pool.  By the caller that holds `busy`. */
static void stop_pool(void) {
    if (!pool.threads) return;
    atomic_store(&pool.quit, 1);
    change(&pool.job, 1u << SIZE_BITS);
    for (int i = 1; i <= pool.threads; i++) pthread_join(pool.thread[i], NULL);
    pool.threads = 0;
}

/* At exit, or when the library is unloaded. */
__attribute__((destructor)) static void at_exit(void) {
    if (JOIN_AT_EXIT && !atomic_exchange(&pool.busy, 1)) stop_pool();
}

/* A child has none of its parent's threads: it starts with an empty pool. */
static void in_child(void) {
    forget_sleepers();
    atomic_store(&host.parallel, NULL);
    pool.threads = 0;
    atomic_store(&pool.busy, 0);
    atomic_store(&pool.job.value, 0);
    word *const words[] = { &pool.job, &pool.unfinished, &pool.team.round };
    for (int i = 0; i < 3; i++) atomic_store(&words[i]->sleepers, 0);
}

/* Starts threads for ranks 1 .. size-1.  Returns the size of the team: less if the system gives no
   more threads. */
static int grow(int size) {
    if (!pool.allowed) pool.allowed = may_start_threads(in_child);
    pool.born = atomic_load(&pool.job.value);
    const signal_mask old = block_signals();
    while (pool.allowed && pool.threads < size - 1) {
        const int rank = pool.threads + 1;
        if (pthread_create(&pool.thread[rank], NULL, worker, (void *)(intptr_t)rank)) break;
        pool.threads = rank;
    }
    restore_signals(old);
    return pool.threads + 1 < size ? pool.threads + 1 : size;
}

/* On this thread alone. */
void team_run_alone(team_function function, void *context) {
    team alone = { .size = 1 };
    const float_mode old = begin_arithmetic();
    function(context, &alone, 0, 1);
    end_arithmetic(old);
}

/* On this thread, in the middle of a run. */
int call_outside(int (*function)(void *context), void *context) {
    const float_mode old = begin_arithmetic();
    end_arithmetic(USUAL_MODE);
    const int result = function(context);
    end_arithmetic(old);
    return result;
}

/* The job, on ranks that the pool's threads take. */
static void run_on_pool(int size) {
    atomic_store(&pool.team.size, size);
    atomic_store(&pool.unfinished.value, (unsigned)size - 1);
    const unsigned job = atomic_load(&pool.job.value);
    change(&pool.job, next_job(job, size) - job);
    take_part(0);
    waited = 0;
    for (;;) {
        const unsigned left = atomic_load_explicit(&pool.unfinished.value, memory_order_acquire);
        if (left == 0) break;
        wait_change(&pool.unfinished, left);
    }
    pool.waited[0] += waited;
}

/* The job, as the next rank of a host's team; all its threads store the same size. */
static void take_hosted_part(void *caller) {
    const int is_caller = pthread_equal(*(const pthread_t *)caller, pthread_self());
    atomic_store(&pool.team.size, host.size());
    take_part(is_caller ? 0 : atomic_fetch_add(&pool.next, 1));
}

/* On a team of at most c->size, by the caller that holds `busy`.  Returns the seconds that its
   threads waited, in sum; *size: its size. */
static double run_together(const crew *c, team_function function, void *context, int *size) {
    const host_parallel parallel = c->hosted ? atomic_load(&host.parallel) : NULL;
    pool.function = function;
    pool.context = context;
    atomic_store(&pool.team.arrived, 0);
    if (parallel) {
        pthread_t self = pthread_self();
        atomic_store(&pool.next, 1);
        parallel(take_hosted_part, &self, (unsigned)c->size, 0);
    } else
        run_on_pool(grow(c->size));
    *size = atomic_load(&pool.team.size);
    double sum = 0;
    for (int i = 0; i < *size; i++) sum += pool.waited[i];
    return sum;
}

void team_use_host(host_parallel parallel, host_size size) {
    while (atomic_exchange(&pool.busy, 1)) PAUSE();
    if (!pool.allowed) pool.allowed = may_start_threads(in_child); /* a child has no host */
    host.size = size;
    atomic_store(&host.parallel, pool.allowed ? parallel : NULL);
    atomic_store(&pool.busy, 0);
}

/* The next runs have so many threads. */
static void resize(crew *c, int size) {
    c->size = size;
    c->elapsed = c->waited = 0;
}

/* After a run of c->size threads: half as many if they waited too much, since half of them would
   then have taken no longer; more after a while. */
static void adapt(crew *c, double elapsed, double waited_in_sum) {
    c->elapsed += elapsed;
    c->waited += waited_in_sum;
    if (c->elapsed < WINDOW) return;
    if (c->waited > MOST_WAITING * c->size * c->elapsed) {
        c->retry = fmin(fmax(2 * c->retry, FIRST_RETRY), LAST_RETRY);
        resize(c, c->size - c->size / 2);
    } else if (c->size == c->wanted) {
        c->retry /= 2;
        resize(c, c->size);
    } else if (c->elapsed >= c->retry)
        resize(c, 2 * c->size < c->wanted ? 2 * c->size : c->wanted);
}

/* Runs function(context, team, rank, size) on every rank of a team of at most c->wanted and returns
   when all have returned.  On this thread alone if one is wanted or another caller has the pool. */
void team_run(crew *c, team_function function, void *context) {
    if (c->wanted > THREADS_MAX - 1) c->wanted = THREADS_MAX - 1;
    if (c->size < 1 || c->size > c->wanted) c->size = c->wanted;
    const double begin = c->wanted > 1 ? now() : 0;
    if (c->size > 1 && !atomic_exchange(&pool.busy, 1)) {
        int size;
        const double sum = run_together(c, function, context, &size);
        atomic_store(&pool.busy, 0);
        if (size == c->size) adapt(c, now() - begin, sum);
        return;
    }
    team_run_alone(function, context);
    if (c->wanted > 1 && c->size == 1) adapt(c, now() - begin, 0);
}
