/* wait.h: how a thread of the pool sleeps until a word changes; threads.c alone includes it.  On
   Linux a futex, elsewhere a condition variable.

   No wake-up is lost.  Who sleeps counts itself before it reads the value for the last time, who
   changes the value does so before it reads the count, and all four are sequentially consistent:
   one of the two sees what the other did.  The last read and the start of the sleep are one step:
   the kernel's, or under the lock that the waker takes. */
#ifndef BPTT_WAIT_H
#define BPTT_WAIT_H
#include <stdatomic.h>

/* A word that threads wait for. */
typedef struct {
    atomic_uint value;
    atomic_uint sleepers;
} word;

#ifdef __linux__
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

static void sleep_while(word *w, unsigned old) {
    atomic_fetch_add(&w->sleepers, 1);
    while (atomic_load(&w->value) == old)
        syscall(SYS_futex, &w->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&w->sleepers, 1);
}
static void wake_all(word *w) {
    syscall(SYS_futex, &w->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
static void forget_sleepers(void) {}
#else
#include <pthread.h>

static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some_change = PTHREAD_COND_INITIALIZER;

static void sleep_while(word *w, unsigned old) {
    pthread_mutex_lock(&sleep_lock);
    atomic_fetch_add(&w->sleepers, 1);
    while (atomic_load(&w->value) == old) pthread_cond_wait(&some_change, &sleep_lock);
    atomic_fetch_sub(&w->sleepers, 1);
    pthread_mutex_unlock(&sleep_lock);
}
static void wake_all(word *w) {
    (void)w;
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&some_change);
    pthread_mutex_unlock(&sleep_lock);
}
/* In a child after fork, whose parent's threads may have held the lock. */
static void forget_sleepers(void) {
    pthread_mutex_init(&sleep_lock, NULL);
    pthread_cond_init(&some_change, NULL);
}
#endif

/* Adds to the word, and wakes all that sleep until it changes. */
static void change(word *w, unsigned by) {
    atomic_fetch_add(&w->value, by);
    if (atomic_load(&w->sleepers)) wake_all(w);
}
#endif
