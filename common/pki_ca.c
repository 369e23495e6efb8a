/* The collector's own small CA: its certificate, hosts' and servers'.
 *
 * A request contributes its public key and nothing else; who the host is, the
 * collector says. Each certificate has a random serial, and says what it may
 * be used for: a host's for nothing but TLS clients, a server's for nothing
 * but TLS servers.
 *
 * Failures: a request that is too large, malformed, not P-256 or not signed by
 * its own key; names that are neither DNS names nor addresses; memory. */
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/pki.h"
#include "common/pki_internal.h"

enum {
    CSR_MAX_BYTES = 4096,
    SERIAL_BITS = 127, /* positive and within the 20 bytes allowed */
    BACKDATE_S = 3600, /* for clocks that lag behind ours */
    MAX_SERVER_NAMES = 32,
};

static int set_serial(X509 *cert)
{
    BIGNUM *serial = BN_new();
    int ok = serial != NULL &&
             BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ONE,
                     BN_RAND_BOTTOM_ANY) == 1 &&
             BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) != NULL;
    BN_free(serial);
    return ok ? PSC_OK : PSC_NOMEM;
}

/* Valid from an hour ago to @valid_s from now (negative: expired already), but
 * not longer than @ca (NULL: itself). */
static int set_dates(X509 *cert, X509 *ca, int64_t valid_s)
{
    /* The fine clock: time() lags behind it when a second begins, and who is
     * told since when certificates count would be issued an older one. */
    time_t now = (time_t)(psc_clock_wall_us() / PSC_US_PER_S);
    time_t end = now + (time_t)valid_s;
    time_t start = (valid_s > 0 ? now : end) - BACKDATE_S;
    int ok = ASN1_TIME_set(X509_getm_notBefore(cert), start) != NULL;
    if (ca != NULL && ASN1_TIME_cmp_time_t(X509_get0_notAfter(ca), end) < 0) {
        ok = ok && X509_set1_notAfter(cert, X509_get0_notAfter(ca)) == 1;
    } else {
        ok = ok && ASN1_TIME_set(X509_getm_notAfter(cert), end) != NULL;
    }
    return ok ? PSC_OK : PSC_NOMEM;
}

/* Add an extension from OpenSSL's text for it: fixed texts only. */
static int add_extension(X509 *cert, X509 *ca, int nid, const char *text)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, ca, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, text);
    int ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok ? PSC_OK : PSC_NOMEM;
}

/* An unsigned certificate with all that every kind has. */
static X509 *new_cert(X509 *ca, EVP_PKEY *key, const char *common_name,
                      int64_t valid_s)
{
    X509 *cert = X509_new();
    if (cert == NULL || X509_set_version(cert, X509_VERSION_3) != 1 ||
        set_serial(cert) != PSC_OK || set_dates(cert, ca, valid_s) != PSC_OK ||
        pki_set_name(X509_get_subject_name(cert), common_name) != PSC_OK ||
        X509_set_issuer_name(
            cert, X509_get_subject_name(ca != NULL ? ca : cert)) != 1 ||
        X509_set_pubkey(cert, key) != 1 ||
        add_extension(cert, ca, NID_subject_key_identifier, "hash") != PSC_OK) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

int psc_ca_new(EVP_PKEY *key, const char *common_name, int days, X509 **out,
               struct psc_error *err)
{
    ERR_clear_error();
    X509 *cert = new_cert(NULL, key, common_name, (int64_t)days * 86400);
    if (cert == NULL ||
        add_extension(cert, cert, NID_authority_key_identifier,
                      "keyid:always") != PSC_OK ||
        add_extension(cert, cert, NID_basic_constraints,
                      "critical,CA:TRUE,pathlen:0") != PSC_OK ||
        add_extension(cert, cert, NID_key_usage,
                      "critical,keyCertSign,cRLSign") != PSC_OK ||
        X509_sign(cert, key, EVP_sha256()) <= 0) {
        X509_free(cert);
        return pki_fail(err, PSC_NOMEM, "make a CA certificate");
    }
    *out = cert;
    return PSC_OK;
}

/* Whether @key can sign for @ca. */
static int check_ca(X509 *ca, EVP_PKEY *ca_key, struct psc_error *err)
{
    ERR_clear_error();
    if (X509_check_ca(ca) != 1) {
        return psc_error_set(err, PSC_CONFIG,
                             "the CA's certificate is not a CA's");
    }
    if (X509_check_private_key(ca, ca_key) != 1) {
        return pki_fail(err, PSC_CONFIG,
                        "the CA's key does not belong to its certificate");
    }
    return PSC_OK;
}

/* Complete and sign @cert (takes it, even on failure). */
static int finish_leaf(X509 *cert, X509 *ca, EVP_PKEY *ca_key,
                       GENERAL_NAMES *names, const char *usage, X509 **out,
                       struct psc_error *err)
{
    if (add_extension(cert, ca, NID_authority_key_identifier, "keyid:always") !=
            PSC_OK ||
        add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") !=
            PSC_OK ||
        add_extension(cert, ca, NID_key_usage, "critical,digitalSignature") !=
            PSC_OK ||
        add_extension(cert, ca, NID_ext_key_usage, usage) != PSC_OK ||
        X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0,
                          X509V3_ADD_DEFAULT) != 1 ||
        X509_sign(cert, ca_key, EVP_sha256()) <= 0) {
        X509_free(cert);
        return pki_fail(err, PSC_NOMEM, "issue a certificate");
    }
    *out = cert;
    return PSC_OK;
}

/* Add a name of @type; @value's text is copied. */
static int add_name(GENERAL_NAMES *names, int type, int string_type,
                    const void *value, size_t len)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *text = ASN1_STRING_type_new(string_type);
    if (name == NULL || text == NULL ||
        ASN1_STRING_set(text, value, (int)len) != 1) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(text);
        return PSC_NOMEM;
    }
    GENERAL_NAME_set0_value(name, type, text);
    if (sk_GENERAL_NAME_push(names, name) == 0) {
        GENERAL_NAME_free(name);
        return PSC_NOMEM;
    }
    return PSC_OK;
}

/* Whether @key is on P-256, named as such, and a point of that curve. */
static bool is_p256(EVP_PKEY *key)
{
    char group[32] = "";
    size_t len = 0;
    if (!EVP_PKEY_is_a(key, "EC") ||
        EVP_PKEY_get_group_name(key, group, sizeof(group), &len) != 1 ||
        OBJ_txt2nid(group) != NID_X9_62_prime256v1) {
        return false;
    }
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    int ok = ctx != NULL && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* The checked public key of a request, owned by the caller. */
static int read_csr(struct psc_bytes der, EVP_PKEY **key, struct psc_error *err)
{
    if (der.len == 0 || der.len > CSR_MAX_BYTES) {
        return psc_error_set(err, PSC_FORMAT,
                             "certificate request of %zu bytes; 1 to %d are "
                             "allowed",
                             der.len, CSR_MAX_BYTES);
    }
    ERR_clear_error();
    const unsigned char *at = der.data;
    X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)der.len);
    if (req == NULL || at != der.data + der.len) {
        X509_REQ_free(req);
        return pki_fail(err, PSC_FORMAT, "malformed certificate request");
    }
    int rc = PSC_OK;
    EVP_PKEY *found = X509_REQ_get_pubkey(req);
    if (found == NULL) {
        rc = pki_fail(err, PSC_FORMAT, "certificate request without a key");
    } else if (!is_p256(found)) {
        rc = pki_fail(err, PSC_FORMAT,
                      "certificate request whose key is not P-256");
    } else if (X509_REQ_verify(req, found) != 1) {
        rc = pki_fail(err, PSC_FORMAT,
                      "certificate request not signed by its own key");
    }
    X509_REQ_free(req);
    if (rc != PSC_OK) {
        EVP_PKEY_free(found);
        return rc;
    }
    *key = found;
    return PSC_OK;
}

int psc_ca_issue_host(X509 *ca, EVP_PKEY *ca_key, struct psc_bytes csr_der,
                      int64_t host_id, const char *host_name, int64_t valid_s,
                      X509 **cert, struct psc_error *err)
{
    EVP_PKEY *key = NULL;
    if (host_id <= 0) {
        return psc_error_set(err, PSC_FORMAT, "%lld is no host id",
                             (long long)host_id);
    }
    int rc = check_ca(ca, ca_key, err);
    if (rc == PSC_OK) {
        rc = read_csr(csr_der, &key, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    char uri[64];
    int len =
        snprintf(uri, sizeof(uri), PKI_HOST_URI "%lld", (long long)host_id);
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    X509 *leaf = new_cert(ca, key, host_name, valid_s);
    EVP_PKEY_free(key);
    if (names == NULL || leaf == NULL ||
        add_name(names, GEN_URI, V_ASN1_IA5STRING, uri, (size_t)len) !=
            PSC_OK) {
        X509_free(leaf);
        rc = pki_fail(err, PSC_NOMEM, "issue a certificate");
    } else {
        rc = finish_leaf(leaf, ca, ca_key, names, "clientAuth", cert, err);
    }
    GENERAL_NAMES_free(names);
    return rc;
}

static bool is_dns_name(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > 253 || text[0] == '.' || text[0] == '-') {
        return false;
    }
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789.-_") == len;
}

/* Add one of a server's names. */
static int add_server_name(GENERAL_NAMES *names, const char *text,
                           struct psc_error *err)
{
    if (sk_GENERAL_NAME_num(names) >= MAX_SERVER_NAMES) {
        return psc_error_set(err, PSC_CONFIG,
                             "more than %d names for a certificate",
                             MAX_SERVER_NAMES);
    }
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(text);
    ERR_clear_error();
    int rc = PSC_OK;
    if (address != NULL) {
        rc = add_name(names, GEN_IPADD, V_ASN1_OCTET_STRING,
                      ASN1_STRING_get0_data(address),
                      (size_t)ASN1_STRING_length(address));
    } else if (is_dns_name(text)) {
        rc = add_name(names, GEN_DNS, V_ASN1_IA5STRING, text, strlen(text));
    } else {
        return psc_error_set(err, PSC_CONFIG,
                             "\"%.100s\" is neither a DNS name nor an address",
                             text);
    }
    ASN1_OCTET_STRING_free(address);
    return rc == PSC_OK ? rc
                        : psc_error_set(err, rc, "out of memory for names");
}

/* Parse "a.example, 10.0.0.7, ::1"; the first one goes to @first as well. */
static int parse_names(const char *list, GENERAL_NAMES *names, char first[256],
                       struct psc_error *err)
{
    first[0] = '\0';
    while (*list != '\0') {
        char one[256];
        list += strspn(list, ", \t");
        size_t len = strcspn(list, ", \t");
        if (len == 0) {
            break;
        }
        if (len >= sizeof(one)) {
            return psc_error_set(err, PSC_CONFIG,
                                 "\"%.64s…\" is too long for a name", list);
        }
        memcpy(one, list, len);
        one[len] = '\0';
        list += len;
        int rc = add_server_name(names, one, err);
        if (rc != PSC_OK) {
            return rc;
        }
        if (first[0] == '\0') {
            memcpy(first, one, len + 1);
        }
    }
    return first[0] != '\0'
               ? PSC_OK
               : psc_error_set(err, PSC_CONFIG,
                               "a server's certificate needs a name");
}

int psc_ca_issue_server(X509 *ca, EVP_PKEY *ca_key, EVP_PKEY *key,
                        const char *names_text, int64_t valid_s, X509 **cert,
                        struct psc_error *err)
{
    char first[256];
    int rc = check_ca(ca, ca_key, err);
    if (rc != PSC_OK) {
        return rc;
    }
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    if (names == NULL) {
        return pki_fail(err, PSC_NOMEM, "issue a certificate");
    }
    rc = parse_names(names_text, names, first, err);
    if (rc == PSC_OK) {
        X509 *leaf = new_cert(ca, key, first, valid_s);
        rc = leaf != NULL
                 ? finish_leaf(leaf, ca, ca_key, names, "serverAuth", cert, err)
                 : pki_fail(err, PSC_NOMEM, "issue a certificate");
    }
    GENERAL_NAMES_free(names);
    return rc;
}
