/* SIGHUP: certificates and configuration are read again while sessions stay;
 * what is wrong changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/bn.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/peer_world.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum { WAIT_S = 20 };

static struct world world;
static const char *config;
static struct peer_identity id;

static void configure(const char *text)
{
    temp_write(config, text, strlen(text));
}

/* Send SIGHUP and wait for another line with @text in the log. */
static void hang_up(const char *text)
{
    unsigned n = world_log_count(world.collector_log, text);
    assert_int_equal(kill(world.collector, SIGHUP), 0);
    world_log_await(world.collector_log, text, n + 1, WAIT_S);
}

/* Serial number of the certificate that the collector shows now. */
static const char *served(void)
{
    struct peer p;
    assert_true(peer_connect(&p, world.port, &id));
    X509 *cert = SSL_get1_peer_certificate(p.client.ssl);
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = BN_bn2hex(number);
    const char *text = peer_text("%s", hex);
    OPENSSL_free(hex);
    BN_free(number);
    X509_free(cert);
    peer_close(&p);
    return text;
}

/* As when an administrator puts another one there: ours is made anew. */
static void certificates_change_under_live_sessions(void **state)
{
    (void)state;
    struct peer p;
    char before[128];
    (void)snprintf(before, sizeof(before), "%s", served());
    peer_world_begin(&world, &p, &id, 1);
    hang_up("read again");
    assert_string_equal(served(), before);
    assert_int_equal(unlink(temp_path(world.pki_dir, "server.pem")), 0);
    hang_up("read again");
    assert_string_not_equal(served(), before);
    peer_tag(&p, "a", 1);
    assert_true(peer_batch(&p, true, 0, NULL));
    assert_true(peer_await_ack(&p, 1, PEER_ACK_S));
    peer_close(&p);
}

static void a_log_level_changes(void **state)
{
    (void)state;
    assert_int_equal(world_log_count(world.collector_log, "debug: "), 0);
    configure("[collector]\nlog_level = debug\n");
    hang_up("read again");
    (void)served();
    world_log_await(world.collector_log, "debug: ", 1, WAIT_S);
    configure("[collector]\nlog_level = info\n");
    hang_up("read again");
}

static void connections_are_limited_anew(void **state)
{
    (void)state;
    struct peer p, q;
    peer_world_begin(&world, &p, &id, 2);
    configure("[collector]\nmax_connections = 1\n");
    hang_up("read again");
    bool in = peer_connect(&q, world.port, &id) && peer_hello(&q) == 0;
    assert_false(in);
    peer_close(&q);
    configure("[collector]\nmax_connections = 100\n");
    hang_up("read again");
    peer_world_begin(&world, &q, &id, 3);
    peer_close(&q);
    peer_close(&p);
}

static void what_is_wrong_changes_nothing(void **state)
{
    (void)state;
    configure("[collector]\nlog_level = debug\nmax_connections = many\n");
    hang_up("nothing is read again");
    configure("[collector]\nmax_handshakes = 2000\n");
    hang_up("max_handshakes has changed: that needs a restart");
    configure("[collector]\n");
    const char *ca = temp_path(world.pki_dir, "ca.pem");
    const char *aside = temp_path(world.pki_dir, "aside");
    assert_int_equal(rename(ca, aside), 0);
    hang_up("certificates are not read again");
    assert_int_equal(access(ca, F_OK), -1); /* none is made in its place */
    assert_int_equal(rename(aside, ca), 0);
    (void)served();
    hang_up("configuration and certificates are read again");
}

/* A collector that waits for its database is not ended by it either. */
static void it_survives_before_it_is_ready(void **state)
{
    (void)state;
    world_collector_stop(&world, SIGTERM);
    PGconn *other = test_database_connect(&world.db, DATABASE_OWNER);
    test_sql(other, "BEGIN; LOCK TABLE poolscope.schema_version");
    world_collector_spawn(&world);
    spawn_sleep_ms(1000);
    assert_int_equal(kill(world.collector, SIGHUP), 0);
    spawn_sleep_ms(300);
    assert_true(spawn_running(world.collector));
    test_sql(other, "COMMIT");
    PQfinish(other);
    world_collector_await(&world);
}

static int start(void **state)
{
    static const char *words[] = {"--config", NULL, NULL};
    (void)state;
    config = temp_path(temp_dir(), "collector.conf");
    words[1] = config;
    configure("[collector]\n");
    world_start(&world, false, words, NULL);
    peer_world_enrol(&world, &id, "host");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    peer_identity_fini(&id);
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_level_changes),
        cmocka_unit_test(certificates_change_under_live_sessions),
        cmocka_unit_test(connections_are_limited_anew),
        cmocka_unit_test(what_is_wrong_changes_nothing),
        cmocka_unit_test(it_survives_before_it_is_ready),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
