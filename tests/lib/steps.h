/* A recorded tree that moves: a thread rewrites its files in steps 1, 2, 3 …,
 * and every value in them is a known function of the step. So whatever the
 * database holds afterwards can be checked value by value, and one delta that
 * was lost, doubled or applied to the wrong base shows.
 *
 *   proc/slabinfo  tags slab/step_a …, the first and the last one being the
 *                  step itself: some change always, some seldom, some never,
 *                  some come and go
 *   proc/meminfo   likewise as counters
 *   dev/kmsg       an event now and then, each with a number of its own */
#ifndef PSC_TESTS_LIB_STEPS_H
#define PSC_TESTS_LIB_STEPS_H

#include "tests/lib/world.h"

struct steps;

/* Make the tree, and take a step every @every_ms; ends at exit. */
struct steps *steps_start(const char *host, unsigned every_ms);

/* The tree, for the agent's option --root. */
const char *steps_root(const struct steps *s);

/* Stand still; go on. Returns the step. */
long steps_pause(struct steps *s);
void steps_resume(struct steps *s);

/* From now on the tree is of another boot: new id, new kernel log. Only while
 * no agent reads it. */
void steps_new_boot(struct steps *s);

/* End the thread. The files stay. */
void steps_stop(struct steps *s);

/* Stand still and wait until the database shows the last step and, unless
 * @lost_ok, the last event. The agent must run. */
void steps_await(struct steps *s, struct world *w, const char *host,
                 bool lost_ok, int timeout_s);

/* Check everything that is stored of the host, whose agent must take tags and
 * counters at the same interval. @lost_ok: events may be missing
 * (their batches were dropped), but none may be there twice. */
void steps_check(struct steps *s, struct world *w, const char *host,
                 bool lost_ok);

#endif
