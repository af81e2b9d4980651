/* threads.h: a function on a small pool of threads, and a barrier inside.  The pool is one resource
   of the process: a second caller at the same time gets a team of one.  Inside a run every
   thread rounds to the nearest number, and denormals count as zero. */
#ifndef BPTT_THREADS_H
#define BPTT_THREADS_H
typedef struct team team;

/* Called once for each rank 0 <= rank < size; rank 0 is the calling thread. */
typedef void (*team_function)(void *context, team *team, int rank, int size);

enum { THREADS_MAX = 128 };

/* The threads of one caller's runs; a new one is zero but for `wanted` and `hosted`.  The rest is
   team_run's: it takes fewer threads than wanted while they wait for each other more than they
   work. */
typedef struct {
    int wanted;
    int hosted; /* 1: on the calling program's threads, if it has given some */
    int size; /* of the next run; 0: as many as are wanted */
    double elapsed; /* seconds of the runs with this size */
    double waited; /* seconds that their threads waited, in sum */
    double retry; /* seconds after which more are tried again */
} crew;

/* On at most c->wanted threads; returns when all ranks have returned. */
void team_run(crew *c, team_function function, void *context);
void team_run_alone(team_function function, void *context);
void team_barrier(team *team);

/* The calling program's threads, for crews that are `hosted`; see bptt_use_threads. */
typedef void (*host_parallel)(void (*part)(void *context), void *context, unsigned threads,
                              unsigned flags);
typedef int (*host_size)(void);
void team_use_host(host_parallel parallel, host_size size);

/* function(context), in the arithmetic that a program begins with: the caller's code within a run. */
int call_outside(int (*function)(void *context), void *context);
#endif
