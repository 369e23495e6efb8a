/* The worker processes of a leak test. What a process may hold is limited
 * (open files above all), so each worker holds its share; the parent only
 * says how many objects there are to be. Workers end with their parent,
 * whatever ends that, and free what they hold. Linux only. */
#ifndef PSC_CLI_LEAKTEST_CREW_H
#define PSC_CLI_LEAKTEST_CREW_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/leaktest_kinds_linux.h"
#include "common/error.h"

#define CREW_MAX 2000

/* Shared between the parent and one worker. */
struct crew_slot {
    _Atomic int64_t target; /* set by the parent: objects to hold */
    _Atomic int64_t made;   /* set by the worker: objects held */
    _Atomic int error;      /* set by the worker: errno that stopped it */
};

struct crew_worker {
    pid_t pid; /* 0: ended */
    int wake;  /* a byte written here makes the worker look at its target */
};

struct crew {
    const struct leak_kind *kind;     /* borrowed */
    const struct leak_limits *limits; /* borrowed */
    struct crew_slot *slots;          /* CREW_MAX of them, shared memory */
    struct crew_worker *workers;      /* CREW_MAX of them; owned */
    int n;                            /* workers started */
};

PSC_MUST_CHECK int crew_init(struct crew *c, const struct leak_kind *kind,
                             const struct leak_limits *limits,
                             struct psc_error *err);

/* Start workers until there are @n, and wait until they are ready. */
PSC_MUST_CHECK int crew_hire(struct crew *c, int n, struct psc_error *err);

/* Have the crew hold @objects; less than now frees all and starts anew.
 * Returns at once. */
void crew_set(struct crew *c, int64_t objects);

/* Objects held now. */
int64_t crew_made(const struct crew *c);

/* Whether all is well: fails when a worker has died or could not go on. */
PSC_MUST_CHECK int crew_check(struct crew *c, struct psc_error *err);

/* Wait until @objects are held. Fails as crew_check(), with PSC_TIMEOUT after
 * @timeout_us, and with PSC_CLOSED once *@stop is set. */
PSC_MUST_CHECK int crew_wait(struct crew *c, int64_t objects,
                             int64_t timeout_us, const volatile int *stop,
                             struct psc_error *err);

/* End all workers, which frees what they hold, and wait for that. */
void crew_fini(struct crew *c);

#endif
