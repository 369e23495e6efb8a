/* What fault tests do things to: an agent that samples a moving tree
 * (steps.h), by default every 200 ms. Every function fails the running test
 * on an error. */
#ifndef PSC_TESTS_LIB_SCENE_H
#define PSC_TESTS_LIB_SCENE_H

#include "tests/lib/steps.h"
#include "tests/lib/world.h"

enum { SCENE_WORDS_MAX = 16, SCENE_WAIT_S = 40 };

struct scene {
    struct world *world;
    struct steps *steps;
    struct world_agent *agent;
    int wait_s; /* the longest wait for anything; may be changed */
    char interval[16];
    const char *words[SCENE_WORDS_MAX]; /* the agent's */
};

/* A host @name, whose agent gets the arguments @more (NULL at the end), too,
 * and is not started yet. It samples every @normal_ms milliseconds (0: 200),
 * or as POOLSCOPE_TEST_INTERVAL says in seconds; the tree moves twice as
 * often. @s must live until the world stops. */
void scene_init(struct scene *s, struct world *w, const char *name,
                unsigned normal_ms, const char *const *more);

/* Wait until the agent has taken so many more batches. */
void scene_await_taken(const struct scene *s, unsigned more);

/* Wait for the agent's first connection. */
void scene_await_connected(const struct scene *s);

/* Stand still, wait for what was taken: all of it is stored exactly once,
 * nothing was dropped, every value is right. */
void scene_expect_all(struct scene *s, const char *title);

/* End the agent and the moving. */
void scene_fini(struct scene *s);

#endif
