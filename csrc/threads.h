/* threads.h: a function on a small pool of threads, and a barrier inside.  The pool is one resource
   of the process: a second caller at the same time gets a team of one.  Inside a run every
   thread rounds to the nearest number, and denormals count as zero. */
#ifndef BPTT_THREADS_H
#define BPTT_THREADS_H
typedef struct team team;

/* Called once for each rank 0 <= rank < size; rank 0 is the calling thread. */
typedef void (*team_function)(void *context, team *team, int rank, int size);

enum { THREADS_MAX = 128 };

/* On at most `wanted` threads; returns when all ranks have returned. */
void team_run(int wanted, team_function function, void *context);
void team_barrier(team *team);
#endif
