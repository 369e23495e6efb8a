/* The thread that starts the embedded PostgreSQL. See revive.h. */
#include "collector/revive.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "sql/embedded.h"

/* Who kills it may mean to start it again. */
#define PATIENCE_US (5 * PSC_US_PER_S)
#define RETRY_US    (30 * PSC_US_PER_S)

/* At most one thread, which may outlive the collector's own end. */
static atomic_bool busy;

static void *run(void *arg)
{
    char *data_dir = arg;
    struct embedded_options o = {.data_dir = data_dir, .must_exist = true};
    struct embedded_status status;
    struct psc_error err = {.msg = ""};
    if (embedded_status(data_dir, &status, &err) == PSC_OK && status.died) {
        psc_log_warn("PostgreSQL in %s has died: starting it again", data_dir);
        if (embedded_start(&o, &status, &err) != PSC_OK) {
            psc_log_error("PostgreSQL does not start again: %s", err.msg);
        }
    }
    free(data_dir);
    atomic_store(&busy, false);
    return NULL;
}

static void start(const char *data_dir)
{
    pthread_t thread;
    char *copy = strdup(data_dir);
    if (copy == NULL) {
        return;
    }
    atomic_store(&busy, true);
    if (pthread_create(&thread, NULL, run, copy) != 0) {
        atomic_store(&busy, false);
        free(copy);
        return;
    }
    (void)pthread_detach(thread);
}

void revive_tick(struct revive *r, bool up, const char *data_dir)
{
    int64_t now_us = psc_clock_mono_us();
    if (up || data_dir == NULL) {
        r->down_us = 0;
        return;
    }
    if (r->down_us == 0) {
        r->down_us = now_us;
        r->next_us = now_us + PATIENCE_US;
    }
    if (now_us >= r->next_us && !atomic_load(&busy)) {
        r->next_us = now_us + RETRY_US;
        start(data_dir);
    }
}
