/* threads.h: run(n, fn, ctx) on a small pool of threads, and a barrier inside.  The pool is one resource of the process: a
   second caller at the same time gets a team of one.  Inside a run denormals count as zero, on every thread. */
#ifndef BPTT_THREADS_H
#define BPTT_THREADS_H
typedef struct team team;
typedef void (*team_function)(void *context, team *, int rank, int size);

enum { THREADS_MAX = 128 };
void team_run(int wanted, team_function function, void *context);   /* returns when all ranks have returned */
void team_barrier(team *);
#endif
