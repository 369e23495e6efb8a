/* An agent on a moving tree. */
#include "tests/lib/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INTERVAL_MS = 200,
    INTERVAL_MIN_MS = 100,
    INTERVAL_MAX_MS = 2000,
    SAMPLES_MAX = 30
};

static unsigned interval_ms(unsigned normal_ms)
{
    const char *text = getenv("POOLSCOPE_TEST_INTERVAL");
    if (text == NULL || text[0] == '\0') {
        return normal_ms != 0 ? normal_ms : INTERVAL_MS;
    }
    double ms = strtod(text, NULL) * 1000;
    if (!(ms >= INTERVAL_MIN_MS && ms <= INTERVAL_MAX_MS)) {
        fail_msg("POOLSCOPE_TEST_INTERVAL: %s is not from 0.1 to 2 s", text);
    }
    return (unsigned)ms;
}

void scene_init(struct scene *s, struct world *w, const char *name,
                unsigned normal_ms, const char *const *more)
{
    unsigned ms = interval_ms(normal_ms);
    memset(s, 0, sizeof(*s));
    s->world = w;
    s->wait_s = SCENE_WAIT_S + (int)(SAMPLES_MAX * ms / 1000);
    s->steps = steps_start(name, ms / 2);
    (void)snprintf(s->interval, sizeof(s->interval), "%ums", ms);
    const char *words[] = {
        "--root",    steps_root(s->steps), "--interval",
        s->interval, "--counter-interval", s->interval,
    };
    size_t n = sizeof(words) / sizeof(words[0]);
    memcpy(s->words, words, sizeof(words));
    for (; more != NULL && *more != NULL; more++) {
        assert_true(n + 1 < SCENE_WORDS_MAX);
        s->words[n++] = *more;
    }
    s->agent = world_agent_add(w, name, s->words);
}

void scene_await_taken(const struct scene *s, unsigned more)
{
    unsigned n = world_log_count(s->agent->log, "took batch");
    world_log_await(s->agent->log, "took batch", n + more, s->wait_s);
}

void scene_await_connected(const struct scene *s)
{
    world_log_await(s->agent->log, "connected to", 1, s->wait_s);
}

void scene_expect_all(struct scene *s, const char *title)
{
    struct world_tally t;
    steps_await(s->steps, s->world, s->agent->name, false, s->wait_s);
    world_settle(s->world, s->agent, s->wait_s, title, &t);
    assert_int_equal(t.missing, 0);
    assert_int_equal(t.dropped, 0);
    steps_check(s->steps, s->world, s->agent->name, false);
}

void scene_fini(struct scene *s)
{
    steps_stop(s->steps);
    if (s->agent->pid != 0) {
        world_agent_stop(s->agent, SIGTERM);
    }
}
