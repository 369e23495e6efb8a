/* Keys, requests, the CA and tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/pki.h"

#define DAY_S 86400LL

struct ca {
    EVP_PKEY *key;
    X509 *cert;
};

static int set_up(void **state)
{
    static struct ca ca;
    struct psc_error err;
    assert_int_equal(psc_key_new(&ca.key, &err), 0);
    assert_int_equal(psc_ca_new(ca.key, "poolscope CA", 3650, &ca.cert, &err),
                     0);
    *state = &ca;
    return 0;
}

static int tear_down(void **state)
{
    struct ca *ca = *state;
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
    return 0;
}

/* A request by @key as DER in @der. */
static void make_csr(EVP_PKEY *key, const char *name, struct psc_buf *der)
{
    struct psc_error err;
    psc_buf_init(der, 8192);
    assert_int_equal(psc_csr_new(key, name, der, &err), 0);
}

static int issue(struct ca *ca, struct psc_bytes csr, const char *name,
                 int64_t valid_s, X509 **cert, struct psc_error *err)
{
    return psc_ca_issue_host(ca->cert, ca->key, csr, 4711, name, valid_s, cert,
                             err);
}

/* A certificate for host 4711. */
static X509 *make_host(struct ca *ca, const char *name, int64_t valid_s)
{
    struct psc_error err;
    struct psc_buf csr;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    assert_int_equal(psc_key_new(&key, &err), 0);
    make_csr(key, "whatever", &csr);
    assert_int_equal(issue(ca, psc_buf_bytes(&csr), name, valid_s, &cert, &err),
                     0);
    assert_int_equal(X509_check_private_key(cert, key), 1);
    psc_buf_fini(&csr);
    EVP_PKEY_free(key);
    return cert;
}

/* OpenSSL's judgement of @cert as one for @purpose. */
static int verify(struct ca *ca, X509 *cert, int purpose)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    assert_int_equal(X509_STORE_add_cert(store, ca->cert), 1);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, cert, NULL), 1);
    X509_STORE_CTX_set_purpose(ctx, purpose);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx),
                                X509_V_FLAG_X509_STRICT |
                                    X509_V_FLAG_CHECK_SS_SIGNATURE);
    (void)X509_verify_cert(ctx);
    int result = X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return result;
}

static void keys_survive_pem(void **state)
{
    (void)state;
    struct psc_error err;
    struct psc_buf pem;
    EVP_PKEY *key = NULL;
    EVP_PKEY *back = NULL;
    psc_buf_init(&pem, 4096);
    assert_int_equal(psc_key_new(&key, &err), 0);
    assert_int_equal(psc_key_to_pem(key, &pem), 0);
    assert_int_equal(psc_key_from_pem(psc_buf_bytes(&pem), &back, &err), 0);
    assert_int_equal(EVP_PKEY_eq(key, back), 1);
    EVP_PKEY_free(key);
    EVP_PKEY_free(back);
    psc_buf_wipe(&pem);
    psc_buf_fini(&pem);
}

static void a_full_buffer_is_told(void **state)
{
    struct ca *ca = *state;
    struct psc_buf small;
    psc_buf_init(&small, 16);
    assert_int_equal(psc_key_to_pem(ca->key, &small), PSC_LIMIT);
    psc_buf_reset(&small);
    assert_int_equal(psc_cert_to_pem(ca->cert, &small), PSC_LIMIT);
    psc_buf_fini(&small);
}

static void certificates_survive_pem(void **state)
{
    struct ca *ca = *state;
    struct psc_error err;
    struct psc_buf pem;
    X509 *back = NULL;
    uint8_t one[PSC_SHA256_BYTES];
    uint8_t two[PSC_SHA256_BYTES];
    psc_buf_init(&pem, 4096);
    assert_int_equal(psc_cert_to_pem(ca->cert, &pem), 0);
    assert_int_equal(psc_cert_from_pem(psc_buf_bytes(&pem), &back, &err), 0);
    assert_int_equal(psc_cert_sha256(ca->cert, one), 0);
    assert_int_equal(psc_cert_sha256(back, two), 0);
    assert_memory_equal(one, two, sizeof(one));
    X509_free(back);
    psc_buf_fini(&pem);
}

static void bad_pem_is_explained(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "hello",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct psc_bytes pem = {(const uint8_t *)texts[i], strlen(texts[i])};
        struct psc_error err = {0, ""};
        X509 *cert = NULL;
        EVP_PKEY *key = NULL;
        assert_int_equal(psc_cert_from_pem(pem, &cert, &err), PSC_FORMAT);
        assert_true(err.msg[0] != '\0');
        assert_int_equal(psc_key_from_pem(pem, &key, &err), PSC_FORMAT);
        assert_true(err.msg[0] != '\0');
        assert_int_equal(ERR_peek_error(), 0);
    }
}

static void the_ca_is_a_proper_one(void **state)
{
    struct ca *ca = *state;
    assert_int_equal(X509_check_ca(ca->cert), 1);
    assert_int_equal(X509_get_pathlen(ca->cert), 0);
    assert_int_equal(X509_get_key_usage(ca->cert),
                     KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(X509_self_signed(ca->cert, 1), 1);
    assert_non_null(X509_get0_subject_key_id(ca->cert));
    assert_non_null(X509_get0_authority_key_id(ca->cert));
}

static void a_host_is_a_client_and_nothing_else(void **state)
{
    struct ca *ca = *state;
    X509 *cert = make_host(ca, "web-17", 90 * DAY_S);
    assert_int_equal(verify(ca, cert, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
    assert_int_equal(verify(ca, cert, X509_PURPOSE_SSL_SERVER),
                     X509_V_ERR_INVALID_PURPOSE);
    assert_int_equal(X509_get_extended_key_usage(cert), XKU_SSL_CLIENT);
    assert_int_equal(X509_get_key_usage(cert), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_check_ca(cert), 0);
    assert_non_null(X509_get0_subject_key_id(cert));
    assert_int_equal(ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(cert),
                                           X509_get0_subject_key_id(ca->cert)),
                     0);

    int64_t id = 0;
    assert_int_equal(psc_cert_host_id(cert, &id), 0);
    assert_int_equal(id, 4711);
    X509_free(cert);
}

static void validity_is_as_asked(void **state)
{
    struct ca *ca = *state;
    int64_t from = 0;
    int64_t to = 0;
    int64_t now = psc_clock_wall_us();
    X509 *cert = make_host(ca, "h", 90 * DAY_S);
    assert_int_equal(psc_cert_validity(cert, &from, &to), 0);
    assert_true(from < now && from >= now - 2 * (3600 * PSC_US_PER_S));
    int64_t want = now + 90 * DAY_S * PSC_US_PER_S;
    assert_true(to > want - 60 * PSC_US_PER_S && to < want + 60 * PSC_US_PER_S);
    X509_free(cert);

    cert = make_host(ca, "h", -10 * DAY_S);
    assert_int_equal(psc_cert_validity(cert, &from, &to), 0);
    assert_true(from < to && to < now);
    assert_int_equal(verify(ca, cert, X509_PURPOSE_SSL_CLIENT),
                     X509_V_ERR_CERT_HAS_EXPIRED);
    X509_free(cert);

    /* Nothing outlives its CA. */
    cert = make_host(ca, "h", 20 * (365 * DAY_S));
    int64_t ca_to = 0;
    assert_int_equal(psc_cert_validity(ca->cert, &from, &ca_to), 0);
    assert_int_equal(psc_cert_validity(cert, &from, &to), 0);
    assert_int_equal(to, ca_to);
    X509_free(cert);
}

/* Who asks the fine clock and then has a certificate issued never gets one that
 * began before: time() lags behind it when a second begins. */
static void validity_begins_by_the_fine_clock(void **state)
{
    struct ca *ca = *state;
    for (int i = 0; i < 3; i++) {
        struct psc_error err;
        struct psc_buf csr;
        X509 *cert = NULL;
        make_csr(ca->key, "whatever", &csr);
        int64_t second = psc_clock_wall_us() / PSC_US_PER_S + 1;
        while (psc_clock_wall_us() < second * PSC_US_PER_S) {
        }
        assert_int_equal(
            issue(ca, psc_buf_bytes(&csr), "db01", DAY_S, &cert, &err), 0);
        time_t earliest = (time_t)second - 3600;
        assert_int_not_equal(
            ASN1_TIME_cmp_time_t(X509_get0_notBefore(cert), earliest), -1);
        X509_free(cert);
        psc_buf_fini(&csr);
    }
}

static void names_are_made_harmless(void **state)
{
    struct ca *ca = *state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"web-17.example.com", "web-17.example.com"},
        {"a,URI:poolscope:host:1\n", "a_URI_poolscope_host_1_"},
        {"", "unnamed"},
        {"\xff\x01/CN=root", "___CN_root"},
        {"0123456789012345678901234567890123456789012345678901234567890123456",
         "0123456789012345678901234567890123456789012345678901234567890123"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[256] = "";
        X509 *cert = make_host(ca, cases[i].in, DAY_S);
        X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName,
                                  name, sizeof(name));
        assert_string_equal(name, cases[i].out);
        X509_free(cert);
    }
}

static void serials_differ(void **state)
{
    struct ca *ca = *state;
    X509 *one = make_host(ca, "h", DAY_S);
    X509 *two = make_host(ca, "h", DAY_S);
    assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(one),
                                          X509_get0_serialNumber(two)),
                         0);
    assert_true(ASN1_STRING_length(X509_get0_serialNumber(one)) >= 15);
    X509_free(one);
    X509_free(two);
}

/* A request signed by @key, an OpenSSL key of any kind. */
static void expect_refused(struct ca *ca, EVP_PKEY *key, const char *why)
{
    struct psc_buf csr;
    struct psc_error err;
    X509 *cert = NULL;
    make_csr(key, "h", &csr);
    assert_int_equal(issue(ca, psc_buf_bytes(&csr), "h", DAY_S, &cert, &err),
                     PSC_FORMAT);
    assert_non_null(strstr(err.msg, why));
    assert_null(cert);
    psc_buf_fini(&csr);
    EVP_PKEY_free(key);
}

static void requests_with_other_keys_are_refused(void **state)
{
    struct ca *ca = *state;
    expect_refused(ca, EVP_EC_gen("P-384"), "P-256");
    expect_refused(ca, EVP_EC_gen("secp256k1"), "P-256");
    expect_refused(ca, EVP_RSA_gen(2048), "P-256");
}

/* Every flipped byte either breaks the request or is refused. */
static void damaged_requests_are_refused(void **state)
{
    struct ca *ca = *state;
    struct psc_error err;
    struct psc_buf csr;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    assert_int_equal(psc_key_new(&key, &err), 0);
    make_csr(key, "host", &csr);
    for (size_t i = 0; i < csr.len; i++) {
        csr.data[i] ^= 0x55;
        assert_int_equal(
            issue(ca, psc_buf_bytes(&csr), "h", DAY_S, &cert, &err),
            PSC_FORMAT);
        csr.data[i] ^= 0x55;
    }
    for (size_t len = 0; len < csr.len; len++) {
        struct psc_bytes part = {csr.data, len};
        assert_int_equal(issue(ca, part, "h", DAY_S, &cert, &err), PSC_FORMAT);
    }
    psc_buf_u8(&csr, 0);
    assert_int_equal(issue(ca, psc_buf_bytes(&csr), "h", DAY_S, &cert, &err),
                     PSC_FORMAT);
    static const uint8_t big[5000];
    struct psc_bytes too_big = {big, sizeof(big)};
    assert_int_equal(issue(ca, too_big, "h", DAY_S, &cert, &err), PSC_FORMAT);
    assert_non_null(strstr(err.msg, "5000"));
    psc_buf_fini(&csr);
    EVP_PKEY_free(key);
}

static void only_the_ca_issues(void **state)
{
    struct ca *ca = *state;
    struct psc_error err;
    struct psc_buf csr;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    X509 *leaf = make_host(ca, "h", DAY_S);
    assert_int_equal(psc_key_new(&key, &err), 0);
    make_csr(key, "h", &csr);
    assert_int_equal(psc_ca_issue_host(ca->cert, key, psc_buf_bytes(&csr), 1,
                                       "h", DAY_S, &cert, &err),
                     PSC_CONFIG);
    assert_int_equal(psc_ca_issue_host(leaf, ca->key, psc_buf_bytes(&csr), 1,
                                       "h", DAY_S, &cert, &err),
                     PSC_CONFIG);
    assert_int_equal(psc_ca_issue_host(ca->cert, ca->key, psc_buf_bytes(&csr),
                                       0, "h", DAY_S, &cert, &err),
                     PSC_FORMAT);
    psc_buf_fini(&csr);
    X509_free(leaf);
    EVP_PKEY_free(key);
}

static void servers_bear_their_names(void **state)
{
    struct ca *ca = *state;
    struct psc_error err;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    assert_int_equal(psc_key_new(&key, &err), 0);
    assert_int_equal(psc_ca_issue_server(ca->cert, ca->key, key,
                                         "c1.example, 10.0.0.7,::1 ", DAY_S,
                                         &cert, &err),
                     0);
    assert_int_equal(verify(ca, cert, X509_PURPOSE_SSL_SERVER), X509_V_OK);
    assert_int_equal(verify(ca, cert, X509_PURPOSE_SSL_CLIENT),
                     X509_V_ERR_INVALID_PURPOSE);
    assert_int_equal(X509_check_host(cert, "c1.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(cert, "c2.example", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(cert, "10.0.0.7", 0), 1);
    assert_int_equal(X509_check_ip_asc(cert, "::1", 0), 1);
    assert_int_equal(X509_check_ip_asc(cert, "10.0.0.8", 0), 0);
    int64_t id = 0;
    assert_int_equal(psc_cert_host_id(cert, &id), PSC_FORMAT);
    X509_free(cert);

    static const char *const bad[] = {"",          " , ", "a b/c",
                                      "*.example", "-x",  "ok.example,not:ok"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(psc_ca_issue_server(ca->cert, ca->key, key, bad[i],
                                             DAY_S, &cert, &err),
                         PSC_CONFIG);
    }
    EVP_PKEY_free(key);
}

/* The id that a certificate with these URIs gives, or 0. */
static int64_t id_of_uris(const char *const *uris, size_t n)
{
    X509 *cert = X509_new();
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    for (size_t i = 0; i < n; i++) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *uri = ASN1_IA5STRING_new();
        assert_int_equal(ASN1_STRING_set(uri, uris[i], -1), 1);
        GENERAL_NAME_set0_value(name, GEN_URI, uri);
        assert_true(sk_GENERAL_NAME_push(names, name) > 0);
    }
    assert_int_equal(X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0,
                                       X509V3_ADD_DEFAULT),
                     1);
    int64_t id = 0;
    int rc = psc_cert_host_id(cert, &id);
    assert_true(rc == PSC_OK || rc == PSC_FORMAT);
    GENERAL_NAMES_free(names);
    X509_free(cert);
    return rc == PSC_OK ? id : 0;
}

static void host_ids_have_one_spelling(void **state)
{
    (void)state;
    static const struct {
        const char *uri;
        int64_t id;
    } cases[] = {
        {"poolscope:host:1", 1},
        {"poolscope:host:9223372036854775807", INT64_MAX},
        {"poolscope:host:9223372036854775808", 0},
        {"poolscope:host:99999999999999999999", 0},
        {"poolscope:host:01", 0},
        {"poolscope:host:0", 0},
        {"poolscope:host:-1", 0},
        {"poolscope:host:+1", 0},
        {"poolscope:host:1 ", 0},
        {"poolscope:host:", 0},
        {"Poolscope:host:1", 0},
        {"xpoolscope:host:1", 0},
        {"https://example/", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(id_of_uris(&cases[i].uri, 1), cases[i].id);
    }
    static const char *const two[] = {"poolscope:host:1", "poolscope:host:2"};
    assert_int_equal(id_of_uris(two, 2), 0);
    assert_int_equal(id_of_uris(two, 0), 0);
}

static void tokens_survive_text(void **state)
{
    (void)state;
    struct psc_token token;
    struct psc_token back;
    struct psc_error err;
    char text[PSC_TOKEN_TEXT_BYTES + 2];
    for (unsigned round = 0; round < 256; round++) {
        for (size_t i = 0; i < 32; i++) {
            token.secret[i] = (uint8_t)(i * 31 + round * 7UL);
            token.ca_sha256[i] = (uint8_t)(round ^ (i * 5));
        }
        psc_token_format(&token, text);
        assert_int_equal(strlen(text), 92);
        assert_int_equal(psc_token_parse(text, &back, &err), 0);
        assert_memory_equal(&back, &token, sizeof(token));
    }
    memcpy(text + 92, "\r\n", 3);
    assert_int_equal(psc_token_parse(text, &back, &err), 0);
}

static void spoilt_tokens_are_refused(void **state)
{
    (void)state;
    struct psc_token token;
    struct psc_token back;
    struct psc_error err;
    char text[PSC_TOKEN_TEXT_BYTES];
    memset(&token, 0xa5, sizeof(token));
    psc_token_format(&token, text);
    for (size_t i = 0; i < strlen(text); i++) {
        char kept = text[i];
        text[i] = '*';
        assert_int_equal(psc_token_parse(text, &back, &err), PSC_FORMAT);
        text[i] = '\0';
        assert_int_equal(psc_token_parse(text, &back, &err), PSC_FORMAT);
        text[i] = kept;
    }
    /* The last digit's spare bits must be zero. */
    text[91] = (char)(text[91] + 1);
    assert_int_equal(psc_token_parse(text, &back, &err), PSC_FORMAT);
    assert_int_equal(psc_token_parse("", &back, &err), PSC_FORMAT);
    /* A message about a secret does not repeat it. */
    assert_null(strstr(err.msg, "paWl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_survive_pem),
        cmocka_unit_test(a_full_buffer_is_told),
        cmocka_unit_test(certificates_survive_pem),
        cmocka_unit_test(bad_pem_is_explained),
        cmocka_unit_test(the_ca_is_a_proper_one),
        cmocka_unit_test(a_host_is_a_client_and_nothing_else),
        cmocka_unit_test(validity_is_as_asked),
        cmocka_unit_test(validity_begins_by_the_fine_clock),
        cmocka_unit_test(names_are_made_harmless),
        cmocka_unit_test(serials_differ),
        cmocka_unit_test(requests_with_other_keys_are_refused),
        cmocka_unit_test(damaged_requests_are_refused),
        cmocka_unit_test(only_the_ca_issues),
        cmocka_unit_test(servers_bear_their_names),
        cmocka_unit_test(host_ids_have_one_spelling),
        cmocka_unit_test(tokens_survive_text),
        cmocka_unit_test(spoilt_tokens_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
