/* threads.c: the pool of threads.  It is made at the first run that wants it, made again in a child
   process after fork, and joined at exit.  Waiting is a short bounded spin, then sleep, so that
   idle threads cost nothing and a busy machine is not held up.

   A job is a function that every rank runs once.  The caller is rank 0; rank r > 0 is thread r.
   The pool's own fields are written by the caller that holds `busy`, between two jobs. */
#define _GNU_SOURCE
#include "threads.h"
#include "system.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

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
#else
#define PAUSE() (void)0
typedef int float_mode;
static float_mode begin_arithmetic(void) { return 0; }
static void end_arithmetic(float_mode old) { (void)old; }
#endif

/* Spins before a thread sleeps. */
enum { SPINS = 4000 };

/* A job is one word, so that a thread never takes the number of one job with the team of another:
   its number above, the size of its team in the lowest bits. */
enum { SIZE_BITS = 8 };
static inline unsigned next_job(unsigned job, int size) {
    return ((job >> SIZE_BITS) + 1) << SIZE_BITS | (unsigned)size;
}
static inline int size_of_job(unsigned job) { return (int)(job & ((1u << SIZE_BITS) - 1)); }

struct team {
    int size;
    atomic_uint arrived; /* ranks at the present barrier */
    atomic_uint round; /* barriers that have opened */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a new job, or a barrier that opens */
    pthread_t thread[THREADS_MAX];
    int threads; /* that run */
    int allowed; /* 1: threads may be started */
    unsigned born; /* the job that new threads have no part in */
    atomic_int busy; /* 1: a caller has the pool */
    atomic_int quit; /* 1: threads return */
    atomic_uint job; /* the present job; see next_job */
    atomic_uint unfinished; /* ranks still in it */
    team team;
    team_function function;
    void *context;
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

/* Waits until *value differs from old: spins a little, then sleeps. */
static void wait_change(atomic_uint *value, unsigned old) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(value, memory_order_acquire) != old) return;
        PAUSE();
    }
    pthread_mutex_lock(&pool.lock);
    while (atomic_load_explicit(value, memory_order_acquire) == old)
        pthread_cond_wait(&pool.wake, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

/* Adds to *value, and wakes all that wait for it. */
static void change(atomic_uint *value, unsigned by) {
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add_explicit(value, by, memory_order_acq_rel);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

/* Returns when all ranks have called it.  What they wrote before is visible after. */
void team_barrier(team *t) {
    if (t->size == 1) return;
    const unsigned round = atomic_load_explicit(&t->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)t->size) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        change(&t->round, 1);
    } else
        wait_change(&t->round, round);
}

/* The present job, as one rank. */
static void take_part(int rank) {
    const float_mode old = begin_arithmetic();
    pool.function(pool.context, &pool.team, rank, pool.team.size);
    end_arithmetic(old);
}

/* A thread of the pool: takes part in each job that has its rank. */
static void *worker(void *argument) {
    const int rank = (int)(intptr_t)argument;
    unsigned job = pool.born;
    for (;;) {
        wait_change(&pool.job, job);
        job = atomic_load_explicit(&pool.job, memory_order_acquire);
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
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.threads = 0;
    atomic_store(&pool.busy, 0);
    atomic_store(&pool.job, 0);
}

/* Starts threads for ranks 1 .. size-1.  Returns the size of the team: less if the system gives no
   more threads. */
static int grow(int size) {
    if (!pool.allowed) pool.allowed = may_start_threads(in_child);
    pool.born = atomic_load(&pool.job);
    const signal_mask old = block_signals();
    while (pool.allowed && pool.threads < size - 1) {
        const int rank = pool.threads + 1;
        if (pthread_create(&pool.thread[rank], NULL, worker, (void *)(intptr_t)rank)) break;
        pool.threads = rank;
    }
    restore_signals(old);
    return pool.threads + 1 < size ? pool.threads + 1 : size;
}

/* Runs function(context, team, rank, size) on every rank of a team of at most `wanted` and returns
   when all have returned.  On this thread alone if one is wanted or another caller has the pool. */
void team_run(int wanted, team_function function, void *context) {
    team alone = { .size = 1 };
    if (wanted > THREADS_MAX - 1) wanted = THREADS_MAX - 1;
    if (wanted < 2 || atomic_exchange(&pool.busy, 1)) {
        const float_mode old = begin_arithmetic();
        function(context, &alone, 0, 1);
        end_arithmetic(old);
        return;
    }
    const int size = grow(wanted);
    pool.function = function;
    pool.context = context;
    pool.team.size = size;
    atomic_store(&pool.team.arrived, 0);
    atomic_store(&pool.unfinished, (unsigned)size - 1);
    const unsigned job = atomic_load(&pool.job);
    change(&pool.job, next_job(job, size) - job);
    take_part(0);
    for (;;) {
        const unsigned left = atomic_load_explicit(&pool.unfinished, memory_order_acquire);
        if (left == 0) break;
        wait_change(&pool.unfinished, left);
    }
    atomic_store(&pool.busy, 0);
}
