/* Two collectors on one database, both up: hosts move between them and lose
 * nothing, a host's newer session fences the older one wherever it is, one of
 * them detects, and what an administrator says holds for both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "tests/lib/peer_world.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum { WAIT_S = 40, CUT_S = 5, FILE_MAX_BYTES = 64 * 1024, MOVES = 3 };

static const char tree[] = PSC_TEST_DATA "/proc-linux-6.12";
static const char *const agent_words[] = {
    "--root", tree, "--interval", "300ms", "--counter-interval", "300ms", NULL};
static const char *const first_words[] = {"--name", "first", NULL};
static const char *const second_words[] = {"--name", "second", NULL};

static struct world first, second; /* of the second only the collector */

static void copy_file(const char *from_dir, const char *to_dir,
                      const char *name)
{
    struct psc_buf data;
    struct psc_error err;
    psc_buf_init(&data, FILE_MAX_BYTES);
    assert_int_equal(psc_file_read(temp_path(from_dir, name), &data, &err),
                     PSC_OK);
    temp_write(temp_path(to_dir, name), data.data, data.len);
    psc_buf_fini(&data);
}

static int start(void **state)
{
    (void)state;
    world_start(&first, false, first_words, NULL);
    second = first;
    second.collector = 0;
    second.sql = NULL;
    second.n_agents = 0;
    second.dir = temp_dir();
    second.pki_dir = temp_path(second.dir, "pki");
    second.collector_log = temp_path(second.dir, "collector.log");
    second.words = second_words;
    second.port = world_free_port();
    second.metrics_port = world_free_port();
    assert_int_equal(mkdir(second.pki_dir, 0700), 0);
    copy_file(first.pki_dir, second.pki_dir, "ca.pem");
    copy_file(first.pki_dir, second.pki_dir, "ca.key");
    world_collector_start(&second);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_collector_stop(&second, SIGTERM);
    world_stop(&first);
    return 0;
}

static const char *served_by(const char *host)
{
    return world_text(&first, peer_text("SELECT collector FROM "
                                        "poolscope_data.ingest_cursor JOIN "
                                        "poolscope_data.host USING (host_id) "
                                        "WHERE host = '%s'",
                                        host));
}

/* An agent has both in its list; each in turn is away. */
static void an_agent_moves_and_loses_nothing(void **state)
{
    (void)state;
    static char list[64];
    struct world_tally t;
    struct world_agent *a = world_agent_add(&first, "mover", agent_words);
    (void)snprintf(list, sizeof(list), "127.0.0.1:%d,127.0.0.1:%d", first.port,
                   second.port);
    a->collectors = list;
    world_agent_start(a);
    world_log_await(a->log, "connected to", 1, WAIT_S);
    for (int i = 0; i < MOVES; i++) {
        const char *at = served_by("mover");
        struct world *w = strcmp(at, "first") == 0 ? &first : &second;
        unsigned connected = world_log_count(a->log, "connected to");
        world_collector_stop(w, i % 2 == 0 ? SIGTERM : SIGKILL);
        world_log_await(a->log, "connected to", connected + 1, WAIT_S);
        assert_string_not_equal(served_by("mover"), at);
        world_collector_start(w);
    }
    world_settle(&first, a, WAIT_S, "moved between two collectors", &t);
    assert_int_equal(t.missing, 0);
    assert_int_equal(t.dropped, 0);
    assert_int_equal(t.twice, 0);
    assert_int_equal(t.unordered, 0);
    world_agent_stop(a, SIGTERM);
}

static void send_one(struct peer *p, bool keyframe)
{
    peer_tag(p, "shared_tag", (int64_t)p->seq);
    assert_true(peer_batch(p, keyframe, 0, NULL));
}

/* The same certificate at both: the newer session wins, and what the older
 * one sends is not stored, though its collector does not know of the other. */
static void the_newer_session_fences_the_older(void **state)
{
    (void)state;
    struct peer_identity id;
    struct peer here, there;
    peer_world_enrol(&first, &id, "both");
    peer_world_begin(&first, &here, &id, 1);
    send_one(&here, true);
    assert_true(peer_await_ack(&here, 1, PEER_ACK_S));
    peer_world_begin(&second, &there, &id, 1);
    there.seq = 2;
    send_one(&there, true);
    send_one(&here, false); /* also its seq 2 */
    assert_true(peer_await_ack(&there, 2, PEER_ACK_S));
    assert_int_equal(peer_await_end(&here, PEER_ACK_S),
                     WIRE_REFUSAL_SUPERSEDED);
    peer_close(&here);
    assert_string_equal(peer_world_stored(&first, &id), "2 2 2");

    /* And back again; the stream goes on where the other one left it. */
    assert_true(peer_connect(&here, first.port, &id));
    assert_int_equal(peer_hello(&here), 0);
    assert_int_equal(peer_open(&here, 1), 2);
    here.seq = 3;
    send_one(&here, true);
    assert_true(peer_await_ack(&here, 3, PEER_ACK_S));
    send_one(&there, false);
    assert_int_equal(peer_await_end(&there, PEER_ACK_S),
                     WIRE_REFUSAL_SUPERSEDED);
    peer_close(&there);
    peer_close(&here);
    assert_string_equal(peer_world_stored(&first, &id), "3 3 3");
    assert_int_equal(world_int(&first, "SELECT count(*) FROM "
                                       "poolscope_data.tag "
                                       "WHERE tag = 'shared_tag'"),
                     1);
    peer_identity_fini(&id);
}

/* Tokens, disabling and enabling know no place. */
static void administration_holds_for_both(void **state)
{
    (void)state;
    char out[1024];
    struct peer_identity id, other;
    struct peer p;
    const char *token = world_token(&first, "1");
    peer_identity_init(&id, "governed");
    peer_identity_init(&other, "too-many");
    assert_int_equal(peer_enrol(&id, second.port, token), 0);
    assert_int_equal(peer_enrol(&other, first.port, token), WIRE_REFUSAL_TOKEN);
    for (int i = 0; i < 2; i++) {
        struct world *w = i == 0 ? &first : &second;
        static const char *const disable[] = {"host", "disable", "governed",
                                              NULL};
        static const char *const enable[] = {"host", "enable", "governed",
                                             NULL};
        peer_world_begin(w, &p, &id, (uint8_t)(i + 1));
        assert_int_equal(world_poolscope(&first, disable, out, sizeof(out)), 0);
        assert_int_equal(peer_await_end(&p, CUT_S), WIRE_REFUSAL_DISABLED);
        peer_close(&p);
        assert_true(peer_connect(&p, second.port, &id));
        assert_int_equal(peer_hello(&p), WIRE_REFUSAL_DISABLED);
        peer_close(&p);
        assert_int_equal(world_poolscope(&first, enable, out, sizeof(out)), 0);
    }
    peer_identity_fini(&id);
    peer_identity_fini(&other);
}

static bool detects(struct world *w)
{
    return world_metric(w, "poolscope_collector_detecting") == 1;
}

static void one_detects_and_the_other_takes_over(void **state)
{
    (void)state;
    int64_t end_us = psc_clock_mono_us() + WAIT_S * PSC_US_PER_S;
    while (!detects(&first) && !detects(&second)) {
        assert_true(psc_clock_mono_us() < end_us);
        spawn_sleep_ms(100);
    }
    assert_true(detects(&first) != detects(&second));
    struct world *w = detects(&first) ? &first : &second;
    struct world *other = w == &first ? &second : &first;
    world_collector_stop(w, SIGKILL);
    int64_t start_us = psc_clock_mono_us();
    while (!detects(other)) {
        assert_true(psc_clock_mono_us() < start_us + WAIT_S * PSC_US_PER_S);
        spawn_sleep_ms(100);
    }
    print_message("detection taken over after %.1f s\n",
                  (double)(psc_clock_mono_us() - start_us) / 1e6);
    world_collector_start(w);
    spawn_sleep_ms(3000);
    assert_true(detects(other) && !detects(w));
    assert_string_equal(world_text(&first,
                                   "SELECT string_agg(collector, ' ' ORDER BY "
                                   "collector) FROM poolscope.collector"),
                        "first second");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_moves_and_loses_nothing),
        cmocka_unit_test(the_newer_session_fences_the_older),
        cmocka_unit_test(administration_holds_for_both),
        cmocka_unit_test(one_detects_and_the_other_takes_over),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
