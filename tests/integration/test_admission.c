/* Who is let in: tokens that are used up, revoked or made up; names that are
 * taken; hosts that an administrator disables; certificates that are due, have
 * expired, are of another CA or of nobody. Both sides say why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/pki.h"
#include "tests/lib/certs.h"
#include "tests/lib/client.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { WAIT_S = 30, CUT_S = 5, OUT_BYTES = 4096, PEM_BYTES = 256 * 1024 };

static const char tree[] = PSC_TEST_DATA "/proc-linux-6.12";
static const char *const words[] = {
    "--root", tree, "--interval", "500ms", "--counter-interval", "500ms", NULL};

static struct world world;
static struct world_agent *host;

static int start(void **state)
{
    (void)state;
    world_start(&world, false, NULL, NULL);
    host = world_agent_add(&world, "host", words);
    world_agent_start(host);
    world_log_await(host->log, "connected to", 1, WAIT_S);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(&world);
    return 0;
}

/* Run the command line; it must succeed. */
static const char *poolscope(const char *a, const char *b, const char *c)
{
    static char out[OUT_BYTES];
    const char *arguments[] = {a, b, c, NULL};
    if (world_poolscope(&world, arguments, out, sizeof(out)) != 0) {
        fail_msg("poolscope %s %s %s: %s", a, b, c, out);
    }
    return out;
}

/* --- tokens --- */

/* Try to enrol @name with @token. Returns the exit code; the agent's words are
 * in @log. */
static int enrol(const char *name, const char *token, const char *log)
{
    struct world_agent *a = &(struct world_agent){.world = &world};
    a->state_dir = temp_dir();
    char collector[32];
    (void)snprintf(collector, sizeof(collector), "127.0.0.1:%d", world.port);
    const char *argv[] = {spawn_program("poolscope-agent"),
                          "--enrol",
                          token,
                          "--collector",
                          collector,
                          "--state-dir",
                          a->state_dir,
                          "--host",
                          name,
                          NULL};
    return spawn_wait(spawn(log, argv), WAIT_S);
}

static void expect_no_token(const char *name, const char *token)
{
    const char *log = temp_path(temp_dir(), "log");
    assert_int_not_equal(enrol(name, token, log), 0);
    if (world_log_count(log, "token") == 0) {
        world_show_log(log);
        fail_msg("%s: the agent does not say that it is the token", name);
    }
    char sql[128];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) FROM poolscope.host WHERE host = '%s'",
                   name);
    assert_int_equal(world_int(&world, sql), 0);
}

static void a_token_is_good_as_often_as_it_says(void **state)
{
    (void)state;
    const char *log = temp_path(temp_dir(), "log");
    const char *token = world_token(&world, "2");
    assert_int_equal(enrol("first", token, log), 0);
    assert_int_equal(enrol("second", token, log), 0);
    expect_no_token("third", token);
    assert_non_null(strstr(poolscope("token", "list", NULL), "used"));
    assert_true(world_metric(&world,
                             "poolscope_collector_refusals_total{reason=\"bad "
                             "token\"}") > 0);
    assert_true(world_log_count(world.collector_log, "refused (bad token)") >
                0);
}

static void a_revoked_token_is_none(void **state)
{
    (void)state;
    const char *token = world_token(&world, "5");
    const char *id = world_text(
        &world, "SELECT max(token_id) FROM poolscope_data.enrolment_token");
    (void)poolscope("token", "revoke", id);
    expect_no_token("late", token);
    (void)world_text(&world, "UPDATE poolscope_data.enrolment_token"
                             " SET revoked = false, expires_at = now()");
    expect_no_token("later", token);
    (void)world_text(&world, "UPDATE poolscope_data.enrolment_token"
                             " SET expires_at = now() + interval '1 day'");
}

static void a_token_of_another_ca_is_not_even_shown(void **state)
{
    (void)state;
    struct psc_token token;
    struct psc_error err;
    char text[PSC_TOKEN_TEXT_BYTES];
    const char *log = temp_path(temp_dir(), "log");
    assert_int_equal(psc_token_parse(world.token, &token, &err), PSC_OK);
    token.ca_sha256[0] ^= 1;
    psc_token_format(&token, text);
    long long before =
        world_int(&world, "SELECT sum(uses_left)"
                          " FROM poolscope_data.enrolment_token");
    assert_int_not_equal(enrol("misled", text, log), 0);
    assert_int_equal(world_int(&world, "SELECT sum(uses_left)"
                                       " FROM poolscope_data.enrolment_token"),
                     before);
}

static void a_live_hosts_name_is_taken(void **state)
{
    (void)state;
    const char *log = temp_path(temp_dir(), "log");
    assert_int_not_equal(enrol("host", world.token, log), 0);
    assert_true(world_log_count(log, "name") > 0);
    (void)poolscope("host", "reenrol", "first");
    assert_int_equal(enrol("first", world.token, log), 0);
    assert_int_not_equal(enrol("first", world.token, log), 0);
}

/* --- disabling --- */

static void disabling_cuts_a_host_off_within_5_s(void **state)
{
    (void)state;
    unsigned refused = world_log_count(host->log, "host disabled");
    int64_t start_us = psc_clock_mono_us();
    (void)poolscope("host", "disable", "host");
    world_log_await(host->log, "host disabled", refused + 1, CUT_S);
    print_message("disabled: cut off after %.1f s\n",
                  (double)(psc_clock_mono_us() - start_us) / 1e6);
    world_await(&world, WAIT_S,
                "SELECT status = 'disabled' FROM poolscope.host"
                " WHERE host = 'host'");
    long long n = world_int(&world, "SELECT sum(n)"
                                    " FROM poolscope_data.ingest_cursor");
    world_agent_stop(host, SIGTERM); /* it would try again in minutes */
    world_agent_start(host);
    world_log_await(host->log, "host disabled", refused + 2, WAIT_S);
    assert_int_equal(world_int(&world, "SELECT sum(n)"
                                       " FROM poolscope_data.ingest_cursor"),
                     n);

    (void)poolscope("host", "enable", "host");
    world_agent_stop(host, SIGTERM);
    unsigned connected = world_log_count(host->log, "connected to");
    world_agent_start(host);
    world_log_await(host->log, "connected to", connected + 1, WAIT_S);
    struct world_tally t;
    world_settle(&world, host, WAIT_S, "disabled and enabled", &t);
    assert_int_equal(t.missing, 0);
}

/* --- certificates --- */

static X509 *read_cert(const char *dir, const char *name)
{
    struct psc_error err;
    struct psc_buf pem;
    X509 *cert = NULL;
    psc_buf_init(&pem, PEM_BYTES);
    assert_int_equal(psc_file_read(temp_path(dir, name), &pem, &err), PSC_OK);
    assert_int_equal(psc_cert_from_pem(psc_buf_bytes(&pem), &cert, &err),
                     PSC_OK);
    psc_buf_fini(&pem);
    return cert;
}

static EVP_PKEY *read_key(const char *dir, const char *name)
{
    struct psc_error err;
    struct psc_buf pem;
    EVP_PKEY *key = NULL;
    psc_buf_init(&pem, PEM_BYTES);
    assert_int_equal(psc_file_read(temp_path(dir, name), &pem, &err), PSC_OK);
    assert_int_equal(psc_key_from_pem(psc_buf_bytes(&pem), &key, &err), PSC_OK);
    psc_buf_fini(&pem);
    return key;
}

/* Give an agent that does not run a certificate of @ca_dir's CA for the same
 * key, of @host_id, good for @valid_s from now (negative: expired so long
 * ago). */
static void replace_certificate(const struct world_agent *a, const char *ca_dir,
                                int64_t host_id, int64_t valid_s)
{
    struct psc_error err;
    struct psc_buf csr;
    struct psc_buf pem;
    X509 *cert = NULL;
    X509 *ca = read_cert(ca_dir, "ca.pem");
    EVP_PKEY *ca_key = read_key(ca_dir, "ca.key");
    EVP_PKEY *key = read_key(a->state_dir, "identity.pem");
    psc_buf_init(&csr, PEM_BYTES);
    psc_buf_init(&pem, PEM_BYTES);
    assert_int_equal(psc_csr_new(key, a->name, &csr, &err), PSC_OK);
    if (psc_ca_issue_host(ca, ca_key, psc_buf_bytes(&csr), host_id, a->name,
                          valid_s, &cert, &err) != PSC_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(psc_key_to_pem(key, &pem), PSC_OK);
    assert_int_equal(psc_cert_to_pem(cert, &pem), PSC_OK);
    temp_write(temp_path(a->state_dir, "identity.pem"), pem.data, pem.len);
    X509_free(cert);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
    psc_buf_fini(&csr);
    psc_buf_fini(&pem);
}

static int64_t host_id_of(const char *name)
{
    char sql[128];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT host_id FROM poolscope.host WHERE host = '%s'",
                   name);
    return world_int(&world, sql);
}

static int64_t days_left(const struct world_agent *a)
{
    int64_t from_us;
    int64_t to_us;
    X509 *cert = read_cert(a->state_dir, "identity.pem");
    assert_int_equal(psc_cert_validity(cert, &from_us, &to_us), PSC_OK);
    X509_free(cert);
    return (to_us - psc_clock_wall_us()) / (86400 * PSC_US_PER_S);
}

/* The certificate that is replaced below is older than the enrolment. */
static void age_the_host(void)
{
    (void)world_text(&world,
                     "UPDATE poolscope_data.host"
                     " SET valid_from = valid_from - interval '400 days'");
}

static void a_certificate_that_is_due_is_renewed(void **state)
{
    (void)state;
    world_agent_stop(host, SIGTERM);
    replace_certificate(host, world.pki_dir, host_id_of("host"), 600);
    assert_int_equal(days_left(host), 0);
    unsigned renewed = world_log_count(host->log, "certificate renewed");
    world_agent_start(host);
    world_log_await(host->log, "certificate renewed", renewed + 1, WAIT_S);
    assert_true(days_left(host) > 60);
    assert_int_equal(world_metric(&world, "poolscope_collector_renewals_total"),
                     1);
}

static void an_expired_certificate_is_good_for_renewal_only(void **state)
{
    (void)state;
    age_the_host();
    world_agent_stop(host, SIGTERM);
    replace_certificate(host, world.pki_dir, host_id_of("host"), -1);

    struct client c;
    SSL_CTX *ctx = client_ctx(host->state_dir);
    struct wire_message m = {.type = WIRE_HELLO};
    m.hello.protocol_min = m.hello.protocol_max = WIRE_PROTOCOL_MAX;
    assert_true(client_open(&c, world.port, ctx));
    assert_true(client_send(&c, &m));
    assert_true(client_await(&c, WIRE_REFUSAL, &m, WAIT_S));
    assert_int_equal(m.refusal.code, WIRE_REFUSAL_EXPIRED);
    client_close(&c);
    SSL_CTX_free(ctx);

    unsigned renewed = world_log_count(host->log, "certificate renewed");
    unsigned connected = world_log_count(host->log, "connected to");
    world_agent_start(host);
    world_log_await(host->log, "certificate renewed", renewed + 1, WAIT_S);
    world_log_await(host->log, "connected to", connected + 1, WAIT_S);
    assert_true(days_left(host) > 60);
}

static void strangers_are_told_so(void **state)
{
    (void)state;
    struct world_agent *a = world_agent_add(&world, "stranger", words);
    world_agent_start(a);
    world_log_await(a->log, "connected to", 1, WAIT_S);
    world_agent_stop(a, SIGTERM);

    replace_certificate(a, world.pki_dir, 424242, 86400 * 30);
    world_agent_start(a);
    world_log_await(a->log, "unknown host", 1, WAIT_S);
    world_agent_stop(a, SIGTERM);

    const char *other = temp_dir(); /* somebody else's CA */
    struct certs certs;
    certs_init(&certs);
    struct psc_buf pem;
    psc_buf_init(&pem, PEM_BYTES);
    assert_int_equal(psc_key_to_pem(certs.ca_key, &pem), PSC_OK);
    temp_write(temp_path(other, "ca.key"), pem.data, pem.len);
    temp_write(temp_path(other, "ca.pem"), certs.ca_pem, strlen(certs.ca_pem));
    replace_certificate(a, other, host_id_of("stranger"), 86400 * 30);
    psc_buf_fini(&pem);
    certs_fini(&certs);
    static const char metric[] =
        "poolscope_collector_refusals_total{reason=\"tls\"}";
    long long refused = world_metric(&world, metric);
    world_agent_start(a);
    world_log_await(a->log, "does not accept our certificate", 1, WAIT_S);
    /* It is counted when the connection is closed, after the alert is sent. */
    for (int i = 0; i < 50 && world_metric(&world, metric) == refused; i++) {
        spawn_sleep_ms(100);
    }
    assert_true(world_metric(&world, metric) > refused);
    world_agent_stop(a, SIGTERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_good_as_often_as_it_says),
        cmocka_unit_test(a_revoked_token_is_none),
        cmocka_unit_test(a_token_of_another_ca_is_not_even_shown),
        cmocka_unit_test(a_live_hosts_name_is_taken),
        cmocka_unit_test(disabling_cuts_a_host_off_within_5_s),
        cmocka_unit_test(a_certificate_that_is_due_is_renewed),
        cmocka_unit_test(an_expired_certificate_is_good_for_renewal_only),
        cmocka_unit_test(strangers_are_told_so),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
