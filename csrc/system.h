/* system.h: what threads.c needs of the operating system besides POSIX threads, which Windows has
   by winpthreads. */
#ifndef BPTT_SYSTEM_H
#define BPTT_SYSTEM_H

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <stdint.h>
#include <windows.h>

/* No thread is waited for at exit: the system has ended them all by then, and while a DLL is
   unloaded no thread can end. */
enum { JOIN_AT_EXIT = 0 };

/* Before the first thread: keeps the library loaded, whose code the threads run.  There is no fork.
   Returns 1 if threads may be started. */
static int may_start_threads(void (*in_child)(void)) {
    HMODULE self;
    return GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS |
                                  GET_MODULE_HANDLE_EX_FLAG_PIN,
                              (LPCSTR)(intptr_t)in_child, &self) != 0;
}

/* There are no signals that a thread could be given. */
typedef int signal_mask;
static signal_mask block_signals(void) { return 0; }
static void restore_signals(signal_mask old) { (void)old; }

#else
#include <pthread.h>
#include <signal.h>

/* The pool's threads are joined at exit, and when the library is unloaded. */
enum { JOIN_AT_EXIT = 1 };

/* Before the first thread: in_child will run in the child of every fork.  Returns 1 if threads may
   be started. */
static int may_start_threads(void (*in_child)(void)) {
    return !pthread_atfork(NULL, NULL, in_child);
}

/* A thread starts with the mask of the one that creates it: without signals, which go to the threads
   of the caller's program. */
typedef sigset_t signal_mask;
static signal_mask block_signals(void) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    return old;
}
static void restore_signals(signal_mask old) { pthread_sigmask(SIG_SETMASK, &old, NULL); }
#endif
#endif
