/* The collector's side of identities, against a scripted agent: tokens, and
 * certificates that expire, are renewed, or are of nobody it knows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/file.h"
#include "common/pki.h"
#include "tests/lib/peer_world.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

static struct world world;

static void tokens_enrol_as_often_as_they_may(void **state)
{
    (void)state;
    struct peer_identity a, b, again;
    const char *token = world_token(&world, "1");
    peer_identity_init(&a, "enrolled");
    peer_identity_init(&b, "enrolled-b");
    peer_identity_init(&again, "enrolled");
    assert_int_equal(peer_enrol(&a, world.port, token), 0);
    assert_int_equal(peer_enrol(&a, world.port, token), 0); /* answer lost */
    assert_int_equal(peer_enrol(&b, world.port, token), WIRE_REFUSAL_TOKEN);
    const char *other = world_token(&world, "2");
    assert_int_equal(peer_enrol(&again, world.port, other),
                     WIRE_REFUSAL_NAME_TAKEN);
    assert_int_equal(peer_enrol(&b, world.port, other), 0);

    /* An administrator allows it: then the old certificate is void. */
    struct peer p;
    spawn_sleep_ms(1100); /* certificates begin at whole seconds */
    (void)world_text(&world, "SELECT poolscope_api.host_reenrol('enrolled')");
    assert_int_equal(peer_enrol(&again, world.port, other), 0);
    assert_true(peer_connect(&p, world.port, &a));
    assert_int_equal(peer_hello(&p), WIRE_REFUSAL_UNKNOWN_HOST);
    peer_close(&p);
    peer_world_begin(&world, &p, &again, 1);
    peer_close(&p);
    peer_identity_fini(&a);
    peer_identity_fini(&b);
    peer_identity_fini(&again);
}

static void wrong_and_expired_tokens_are_refused(void **state)
{
    (void)state;
    struct peer_identity id;
    struct psc_token token;
    struct psc_error err;
    char text[PSC_TOKEN_TEXT_BYTES];
    const char *good = world_token(&world, "1");
    peer_identity_init(&id, "token");
    assert_int_equal(psc_token_parse(good, &token, &err), PSC_OK);
    token.secret[0] ^= 1;
    psc_token_format(&token, text);
    long long before = peer_world_refusals(&world, "bad token");
    assert_int_equal(peer_enrol(&id, world.port, text), WIRE_REFUSAL_TOKEN);
    (void)world_text(&world, "UPDATE poolscope_data.enrolment_token SET "
                             "expires_at = now() RETURNING 1");
    assert_int_equal(peer_enrol(&id, world.port, good), WIRE_REFUSAL_TOKEN);
    assert_int_equal(peer_world_refusals(&world, "bad token"), before + 2);
    (void)snprintf(id.host, sizeof(id.host), "no name!");
    assert_int_equal(peer_enrol(&id, world.port, good), WIRE_REFUSAL_HOST_NAME);
    world_log_await(world.collector_log, "\"no name!\" cannot be a host's name",
                    1, PEER_ACK_S);
    peer_identity_fini(&id);
}

/* A certificate for the identity's key by the CA of @dir, as if the host's. */
static void issue(struct peer_identity *id, EVP_PKEY *ca_key, X509 *ca,
                  int64_t host_id, int64_t valid_s)
{
    struct psc_error err;
    struct psc_buf der, pem;
    X509 *cert = NULL;
    psc_buf_init(&der, 65536);
    psc_buf_init(&pem, 65536);
    assert_int_equal(psc_csr_new(id->key, id->host, &der, &err), PSC_OK);
    assert_int_equal(psc_ca_issue_host(ca, ca_key, psc_buf_bytes(&der), host_id,
                                       id->host, valid_s, &cert, &err),
                     PSC_OK);
    assert_int_equal(psc_cert_to_pem(cert, &pem), PSC_OK);
    psc_buf_u8(&pem, '\0');
    peer_identity_show(id, (const char *)pem.data);
    X509_free(cert);
    psc_buf_fini(&der);
    psc_buf_fini(&pem);
}

static void load_ca(EVP_PKEY **key, X509 **cert)
{
    struct psc_error err;
    struct psc_buf pem;
    psc_buf_init(&pem, 65536);
    assert_int_equal(
        psc_file_read(temp_path(world.pki_dir, "ca.key"), &pem, &err), PSC_OK);
    assert_int_equal(psc_key_from_pem(psc_buf_bytes(&pem), key, &err), PSC_OK);
    psc_buf_reset(&pem);
    assert_int_equal(
        psc_file_read(temp_path(world.pki_dir, "ca.pem"), &pem, &err), PSC_OK);
    assert_int_equal(psc_cert_from_pem(psc_buf_bytes(&pem), cert, &err),
                     PSC_OK);
    psc_buf_fini(&pem);
}

/* Renewal of @id over @p; returns 0, the refusal's code, or -1. */
static int renew(struct peer *p, const struct peer_identity *id)
{
    struct psc_error err;
    struct psc_buf der;
    struct wire_message m = {.type = WIRE_RENEW};
    int result = -1;
    psc_buf_init(&der, 65536);
    assert_int_equal(psc_csr_new(id->key, id->host, &der, &err), PSC_OK);
    m.renew.request = psc_buf_bytes(&der);
    assert_true(client_send(&p->client, &m));
    if (client_receive(&p->client, &m, PEER_ACK_S)) {
        result = m.type == WIRE_CERTIFICATE ? 0 : (int)m.refusal.code;
    }
    psc_buf_fini(&der);
    return result;
}

static void certificates_expire_and_are_renewed(void **state)
{
    (void)state;
    struct peer_identity id;
    struct peer p;
    EVP_PKEY *ca_key;
    X509 *ca;
    peer_world_enrol(&world, &id, "expires");
    load_ca(&ca_key, &ca);
    long long host_id = world_int(
        &world, "SELECT host_id FROM poolscope.host WHERE host = 'expires'");
    (void)world_text(&world, "UPDATE poolscope_data.host SET valid_from = "
                             "'-infinity' WHERE host = 'expires' RETURNING 1");
    peer_world_begin(&world, &p, &id, 1); /* within a session */
    assert_int_equal(renew(&p, &id), 0);
    peer_tag(&p, "a", 1);
    assert_true(peer_batch(&p, true, 0, NULL));
    assert_true(peer_await_ack(&p, 1, PEER_ACK_S));
    peer_close(&p);

    issue(&id, ca_key, ca, host_id, -86400); /* expired yesterday */
    assert_true(peer_connect(&p, world.port, &id));
    assert_int_equal(peer_hello(&p), WIRE_REFUSAL_EXPIRED);
    peer_close(&p);
    assert_true(peer_connect(&p, world.port, &id));
    assert_int_equal(renew(&p, &id), 0);
    peer_close(&p);

    issue(&id, ca_key, ca, host_id, -31LL * 86400);
    assert_true(peer_connect(&p, world.port, &id));
    assert_int_equal(renew(&p, &id), WIRE_REFUSAL_EXPIRED);
    peer_close(&p);

    issue(&id, ca_key, ca, 987654, 86400); /* of no host */
    assert_true(peer_connect(&p, world.port, &id));
    assert_int_equal(peer_hello(&p), WIRE_REFUSAL_UNKNOWN_HOST);
    peer_close(&p);
    EVP_PKEY_free(ca_key);
    X509_free(ca);
    peer_identity_fini(&id);
}

static void foreign_and_missing_certificates_are_refused(void **state)
{
    (void)state;
    struct peer_identity id;
    struct peer p;
    struct psc_error err;
    EVP_PKEY *key = NULL;
    X509 *ca = NULL;
    peer_identity_init(&id, "foreign");
    assert_int_equal(psc_key_new(&key, &err), PSC_OK);
    assert_int_equal(psc_ca_new(key, "another CA", 10, &ca, &err), PSC_OK);
    issue(&id, key, ca, 1, 86400);
    long long before = peer_world_refusals(&world, "tls");
    (void)peer_connect(&p, world.port, &id); /* refused in the handshake */
    assert_int_equal(peer_hello(&p), -1);
    peer_close(&p);
    peer_world_await_refusals(&world, "tls", before + 1);
    assert_true(peer_connect(&p, world.port, NULL));
    assert_int_equal(peer_hello(&p), WIRE_REFUSAL_NO_CERTIFICATE);
    peer_close(&p);
    X509_free(ca);
    EVP_PKEY_free(key);
    peer_identity_fini(&id);
}

/* In the words of both sides: by its name, and what an administrator does. */
static void a_disabled_host_is_named(void **state)
{
    (void)state;
    static const char words[] = "host gone is disabled: an administrator runs "
                                "poolscope host enable gone";
    struct peer_identity id;
    struct peer p;
    peer_world_enrol(&world, &id, "gone");
    peer_world_begin(&world, &p, &id, 1);
    (void)world_text(&world, "SELECT poolscope_api.host_disable('gone')");
    assert_int_equal(peer_await_end(&p, PEER_ACK_S), WIRE_REFUSAL_DISABLED);
    assert_string_equal(p.reason, words);
    peer_close(&p);
    assert_true(peer_connect(&p, world.port, &id));
    assert_int_equal(peer_hello(&p), WIRE_REFUSAL_DISABLED);
    assert_string_equal(p.reason, words);
    peer_close(&p);
    assert_int_equal(peer_enrol(&id, world.port, world_token(&world, "1")),
                     WIRE_REFUSAL_DISABLED);
    assert_int_equal(world_log_count(world.collector_log, "host id 0"), 0);
    world_log_await(world.collector_log, words, 1, PEER_ACK_S);
    world_log_await(world.collector_log, "host gone at 127.0.0.1:", 1,
                    PEER_ACK_S);
    peer_identity_fini(&id);
}

static int start(void **state)
{
    (void)state;
    world_start(&world, false, NULL, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_enrol_as_often_as_they_may),
        cmocka_unit_test(wrong_and_expired_tokens_are_refused),
        cmocka_unit_test(certificates_expire_and_are_renewed),
        cmocka_unit_test(a_disabled_host_is_named),
        cmocka_unit_test(foreign_and_missing_certificates_are_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
