/* Scripted agents in an installation. */
#include "tests/lib/peer_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/spawn.h"

const char *peer_text(const char *format, ...)
{
    static char text[4][1024];
    static unsigned next;
    char *out = text[next++ % 4];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(out, sizeof(text[0]), format, args);
    va_end(args);
    return out;
}

void peer_world_enrol(struct world *w, struct peer_identity *id,
                      const char *host)
{
    peer_identity_init(id, host);
    assert_int_equal(peer_enrol(id, w->port, world_token(w, "1")), 0);
}

void peer_world_begin(struct world *w, struct peer *p,
                      const struct peer_identity *id, uint8_t stream_byte)
{
    assert_true(peer_connect(p, w->port, id));
    assert_int_equal(peer_hello(p), 0);
    (void)peer_open(p, stream_byte);
}

const char *peer_world_stored(struct world *w, const struct peer_identity *id)
{
    return world_text(
        w, peer_text("SELECT count(*) || ' ' || count(DISTINCT (stream, seq)) "
                     "|| ' ' || coalesce(max(seq), 0) FROM "
                     "poolscope_data.fresh JOIN poolscope_data.host "
                     "USING (host_id) WHERE host = '%s' AND tags_kind > 0",
                     id->host));
}

long long peer_world_events(struct world *w, const struct peer_identity *id,
                            const char *event_id)
{
    return world_int(w, peer_text("SELECT count(*) FROM poolscope.event WHERE "
                                  "host = '%s' AND event_id = '%s'",
                                  id->host, event_id));
}

long long peer_world_host_id(struct world *w, const struct peer_identity *id)
{
    return world_int(w, peer_text("SELECT host_id FROM poolscope.host "
                                  "WHERE host = '%s'",
                                  id->host));
}

long long peer_world_refusals(struct world *w, const char *reason)
{
    return world_metric(
        w,
        peer_text("poolscope_collector_refusals_total{reason=\"%s\"}", reason));
}

void peer_world_await_refusals(struct world *w, const char *reason, long long n)
{
    for (int i = 0; i < 50 && peer_world_refusals(w, reason) < n; i++) {
        spawn_sleep_ms(100);
    }
    assert_int_equal(peer_world_refusals(w, reason), n);
}
