/* shuffle.c: the order of the sequences in an epoch, from the seed and the number of the epoch.  It is
   that of NumPy's default_rng([seed, epoch]).permutation(n), to the bit: the two numbers are hashed
   (O'Neill's seed_seq_fe) into the state of a PCG64 (XSL-RR), from which a Fisher-Yates shuffle draws.
   To make a generator of NumPy's takes as long as a third of an epoch of a small network. */
#include "bptt.h"

enum { POOL = 4, WORDS = 8 }; /* 32-bit words of the hash, and of the seed of a generator */

/* The hash of a word, with a key that changes from word to word. */
static uint32_t hash(uint32_t word, uint32_t *key, uint32_t factor) {
    word ^= *key;
    *key *= factor;
    word *= *key;
    return word ^ word >> 16;
}
static uint32_t mix(uint32_t a, uint32_t b) {
    const uint32_t word = 0xca01f9ddu * a - 0x4973f715u * b;
    return word ^ word >> 16;
}

/* The words of a number, the low one first, without leading zeros.  Returns how many they are. */
static int words_of(uint64_t number, uint32_t *words) {
    words[0] = (uint32_t)number;
    words[1] = (uint32_t)(number >> 32);
    return words[1] ? 2 : 1;
}

static void hash_numbers(uint64_t a, uint64_t b, uint32_t out[WORDS]) {
    uint32_t pool[POOL] = { 0 }, key = 0x43b0d7e5u;
    words_of(b, pool + words_of(a, pool));
    for (int i = 0; i < POOL; i++) pool[i] = hash(pool[i], &key, 0x931e8875u);
    for (int i = 0; i < POOL; i++)
        for (int j = 0; j < POOL; j++)
            if (i != j) pool[j] = mix(pool[j], hash(pool[i], &key, 0x931e8875u));
    key = 0x8b51f9ddu;
    for (int i = 0; i < WORDS; i++) out[i] = hash(pool[i % POOL], &key, 0x58f38dedu);
}

__extension__ typedef unsigned __int128 wide;

static wide four_words(const uint32_t *w) {
    return (wide)w[1] << 96 | (wide)w[0] << 64 | (wide)w[3] << 32 | w[2];
}

/* A PCG64, with the half of its last number that has not been used. */
typedef struct {
    wide state, increment;
    uint32_t half;
    int has_half;
} generator;

static const uint64_t FACTOR[2] = { 0x2360ed051fc65da4u, 0x4385df649fccf645u };

static void step(generator *g) {
    g->state = g->state * ((wide)FACTOR[0] << 64 | FACTOR[1]) + g->increment;
}

static generator begin(const uint32_t seed[WORDS]) {
    generator g = { .increment = four_words(seed + 4) << 1 | 1 };
    step(&g);
    g.state += four_words(seed);
    step(&g);
    return g;
}

static uint32_t draw(generator *g) {
    g->has_half = !g->has_half;
    if (!g->has_half) return g->half;
    step(g);
    const uint64_t folded = (uint64_t)(g->state >> 64) ^ (uint64_t)g->state;
    const int turn = (int)(g->state >> 122);
    const uint64_t number = folded >> turn | folded << (-turn & 63);
    g->half = (uint32_t)(number >> 32);
    return (uint32_t)number;
}

/* A number from 0 to `last`: of so many bits, until one is not above. */
static uint32_t draw_to(generator *g, uint32_t last) {
    uint32_t mask = last, number;
    for (int bits = 1; bits < 32; bits *= 2) mask |= mask >> bits;
    do number = draw(g) & mask;
    while (number > last);
    return number;
}

void bptt_shuffle(uint64_t seed, uint64_t epoch, int64_t *order, int64_t n) {
    uint32_t words[WORDS];
    hash_numbers(seed, epoch, words);
    generator g = begin(words);
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        const uint32_t j = draw_to(&g, (uint32_t)i);
        const int64_t moved = order[i];
        order[i] = order[j];
        order[j] = moved;
    }
}
