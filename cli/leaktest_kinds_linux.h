/* The kinds of kernel memory that a leak test can hold. Linux only. */
#ifndef PSC_CLI_LEAKTEST_KINDS_H
#define PSC_CLI_LEAKTEST_KINDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* The objects of one worker process. */
struct leak_holder {
    int64_t *ids;   /* file descriptors, timers, keys or queues; owned */
    size_t n_ids;   /* in use */
    size_t cap_ids; /* allocated: never grows, see leak_limits.worker_ids */
    int64_t made;   /* objects made so far */
    int64_t room;   /* objects that fit into the newest pipe, queue, keyring */
    int spare[2];   /* what the kind keeps at hand: a pipe's ends */
    int64_t base;   /* what the kind must know from its parent: a key */
};

/* What this kernel, user and moment allow of a kind. */
struct leak_limits {
    int64_t worker_objects; /* most objects in one worker */
    int64_t worker_ids;     /* ids that so many objects need */
    int64_t total_objects;  /* most objects in all workers together */
    const char *total_why;  /* what bounds total_objects */
    int64_t base;           /* for the holders */
};

struct leak_kind {
    const char *name;
    const char *help;    /* one line */
    const char *grows;   /* the tags that usually grow */
    int64_t batch;       /* objects of a batch that measures their cost */
    int64_t guess_bytes; /* rough cost of an object, to bound that batch */
    bool unaccounted;    /* its memory shows only in the residual */
    /* In the parent, before any worker: find the limits, and that the kernel
     * has it at all: PSC_UNSUPPORTED with a message when it has not. */
    int (*prepare)(struct leak_limits *limits, struct psc_error *err);
    /* Make one object. Returns 0 or an errno. */
    int (*make)(struct leak_holder *h);
    /* Free all objects. */
    void (*drop)(struct leak_holder *h);
    /* In the parent, after a worker's death: free what outlives a process.
     * NULL where nothing does. */
    void (*sweep)(const struct leak_limits *limits);
};

/* Ended by a NULL name. */
extern const struct leak_kind leak_kinds[];

const struct leak_kind *leak_kind_find(const char *name);

/* Storage for a worker's objects; on an error nothing is left. */
PSC_MUST_CHECK int leak_holder_init(struct leak_holder *h,
                                    const struct leak_limits *limits);
void leak_holder_fini(struct leak_holder *h);

#endif
