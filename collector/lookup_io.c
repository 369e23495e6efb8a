/* A detached thread and an async handle.
 *
 * Happy path: lookup_start -> (thread: pghosts_look_up) -> on_async ->
 * on_done -> on_closed.
 *
 * Two sides hold the lookup, the thread and the loop; who lets go last frees
 * it. The loop lets go when the handle is closed, which is after on_done or
 * lookup_abandon(); the thread wakes the loop under the lock, and only while
 * the handle is open. */
#include "collector/lookup_io.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "collector/pghosts.h"

struct lookup {
    uv_async_t async;
    pthread_mutex_t lock; /* of what both sides touch: */
    bool open;            /* the handle may be woken */
    unsigned n_holders;
    char *conninfo; /* owned; what is asked, then what is answered */
    int rc;
    struct psc_error err;
    void (*on_done)(void *user, char *conninfo, const struct psc_error *err);
    void *user;
};

static void let_go(struct lookup *l)
{
    (void)pthread_mutex_lock(&l->lock);
    bool last = --l->n_holders == 0;
    (void)pthread_mutex_unlock(&l->lock);
    if (last) {
        (void)pthread_mutex_destroy(&l->lock);
        free(l->conninfo);
        free(l);
    }
}

static void *run(void *arg)
{
    struct lookup *l = arg;
    char *found = NULL;
    l->rc = pghosts_look_up(l->conninfo, &found, &l->err);
    free(l->conninfo);
    l->conninfo = found;
    (void)pthread_mutex_lock(&l->lock);
    if (l->open) {
        (void)uv_async_send(&l->async);
    }
    (void)pthread_mutex_unlock(&l->lock);
    let_go(l);
    return NULL;
}

static void on_closed(uv_handle_t *handle)
{
    let_go(handle->data);
}

static void close_handle(struct lookup *l)
{
    (void)pthread_mutex_lock(&l->lock);
    l->open = false;
    (void)pthread_mutex_unlock(&l->lock);
    uv_close((uv_handle_t *)&l->async, on_closed);
}

/* The thread has written its answer before it took the lock to wake us. */
static void on_async(uv_async_t *async)
{
    struct lookup *l = async->data;
    close_handle(l);
    char *found = l->conninfo;
    l->conninfo = NULL;
    l->on_done(l->user, found, &l->err);
}

void lookup_abandon(struct lookup *l)
{
    close_handle(l);
}

static int start_thread(struct lookup *l)
{
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0) {
        return PSC_NOMEM;
    }
    int rc = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    rc = rc == 0 ? pthread_create(&thread, &attr, run, l) : rc;
    (void)pthread_attr_destroy(&attr);
    return rc == 0 ? PSC_OK : PSC_NOMEM;
}

int lookup_start(struct lookup **lookup, uv_loop_t *loop, const char *conninfo,
                 void (*on_done)(void *user, char *conninfo,
                                 const struct psc_error *err),
                 void *user)
{
    struct lookup *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return PSC_NOMEM;
    }
    l->on_done = on_done;
    l->user = user;
    l->open = true;
    l->n_holders = 2;
    l->conninfo = strdup(conninfo);
    if (l->conninfo == NULL || pthread_mutex_init(&l->lock, NULL) != 0) {
        free(l->conninfo);
        free(l);
        return PSC_NOMEM;
    }
    if (uv_async_init(loop, &l->async, on_async) != 0) {
        l->n_holders = 1;
        let_go(l);
        return PSC_IO;
    }
    l->async.data = l;
    int rc = start_thread(l);
    if (rc != PSC_OK) {
        l->n_holders = 1; /* the loop's */
        close_handle(l);
        return rc;
    }
    *lookup = l;
    return PSC_OK;
}
