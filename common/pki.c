/* Keys, certificates and requests as text and bytes; tokens. Issuing is in
 * pki_ca.c.
 *
 * Everything here may come from a peer or an administrator, so whatever does
 * not fit is an error with a message, and secrets are wiped from where they
 * passed. */
#include "common/pki.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/pki_internal.h"

enum {
    TOKEN_PART_CHARS = 43, /* base64url of 32 bytes */
    TOKEN_CHARS = 5 + TOKEN_PART_CHARS + 1 + TOKEN_PART_CHARS,
    PEM_MAX_BYTES = 65536,
};

bool pki_out_of_memory(void)
{
    return ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;
}

int pki_fail(struct psc_error *err, int code, const char *what)
{
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    if (pki_out_of_memory()) {
        code = PSC_NOMEM;
    }
    psc_error_set(err, code, "%s%s%s", what, why != NULL ? ": " : "",
                  why != NULL ? why : "");
    ERR_clear_error();
    return code;
}

int psc_key_new(EVP_PKEY **key, struct psc_error *err)
{
    ERR_clear_error();
    EVP_PKEY *made = EVP_EC_gen("P-256");
    if (made == NULL) {
        return pki_fail(err, PSC_NOMEM, "make a P-256 key");
    }
    *key = made;
    return PSC_OK;
}

/* Append what @bio has gathered to @out, leaving no copy behind. */
static int move_text(BIO *bio, int written, struct psc_buf *out)
{
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    int rc = PSC_NOMEM;
    if (written == 1 && len > 0) {
        psc_buf_append(out, text, (size_t)len);
        rc = psc_buf_error(out);
        OPENSSL_cleanse(text, (size_t)len);
    }
    BIO_free(bio);
    ERR_clear_error();
    return rc;
}

int psc_key_to_pem(EVP_PKEY *key, struct psc_buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL) {
        return PSC_NOMEM;
    }
    return move_text(
        bio, PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL),
        out);
}

int psc_cert_to_pem(X509 *cert, struct psc_buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL) {
        return PSC_NOMEM;
    }
    return move_text(bio, PEM_write_bio_X509(bio, cert), out);
}

/* A reader over @pem, or NULL with @err filled. */
static BIO *open_pem(struct psc_bytes pem, struct psc_error *err)
{
    ERR_clear_error();
    if (pem.len == 0 || pem.len > PEM_MAX_BYTES) {
        psc_error_set(err, PSC_FORMAT,
                      "PEM text of %zu bytes; 1 to %d are "
                      "allowed",
                      pem.len, PEM_MAX_BYTES);
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    if (bio == NULL) {
        psc_error_set(err, PSC_NOMEM, "read PEM text: out of memory");
    }
    return bio;
}

int psc_key_from_pem(struct psc_bytes pem, EVP_PKEY **key,
                     struct psc_error *err)
{
    struct psc_error local;
    BIO *bio = open_pem(pem, &local);
    if (bio == NULL) {
        return psc_error_set(err, local.code, "%s", local.msg);
    }
    /* The empty pass phrase keeps OpenSSL from asking on the terminal. */
    EVP_PKEY *read = PEM_read_bio_PrivateKey(bio, NULL, NULL, "");
    BIO_free(bio);
    if (read == NULL) {
        return pki_fail(err, PSC_FORMAT,
                        "no unencrypted private key as PEM text");
    }
    *key = read;
    return PSC_OK;
}

int psc_cert_from_pem(struct psc_bytes pem, X509 **cert, struct psc_error *err)
{
    struct psc_error local;
    BIO *bio = open_pem(pem, &local);
    if (bio == NULL) {
        return psc_error_set(err, local.code, "%s", local.msg);
    }
    X509 *read = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (read == NULL) {
        return pki_fail(err, PSC_FORMAT, "no certificate as PEM text");
    }
    *cert = read;
    return PSC_OK;
}

int psc_cert_sha256(X509 *cert, uint8_t out[PSC_SHA256_BYTES])
{
    unsigned len = PSC_SHA256_BYTES;
    if (X509_digest(cert, EVP_sha256(), out, &len) != 1) {
        ERR_clear_error();
        return PSC_NOMEM;
    }
    return PSC_OK;
}

int pki_set_name(X509_NAME *name, const char *common_name)
{
    char clean[PKI_NAME_MAX_BYTES + 1];
    size_t n = 0;
    for (; common_name[n] != '\0' && n < PKI_NAME_MAX_BYTES; n++) {
        char ch = common_name[n];
        bool fine = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                    (ch >= '0' && ch <= '9') || ch == '.' || ch == '-' ||
                    ch == '_' || (ch == ' ' && n > 0);
        clean[n] = '_';
        if (fine) {
            clean[n] = ch;
        }
    }
    clean[n] = '\0';
    return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_ASC,
                                      (const void *)(n > 0 ? clean : "unnamed"),
                                      -1, -1, 0) == 1
               ? PSC_OK
               : PSC_NOMEM;
}

int psc_csr_new(EVP_PKEY *key, const char *common_name, struct psc_buf *der,
                struct psc_error *err)
{
    ERR_clear_error();
    X509_REQ *req = X509_REQ_new();
    unsigned char *bytes = NULL;
    int len = -1;
    if (req != NULL && X509_REQ_set_version(req, X509_REQ_VERSION_1) == 1 &&
        pki_set_name(X509_REQ_get_subject_name(req), common_name) == PSC_OK &&
        X509_REQ_set_pubkey(req, key) == 1 &&
        X509_REQ_sign(req, key, EVP_sha256()) > 0) {
        len = i2d_X509_REQ(req, &bytes);
    }
    X509_REQ_free(req);
    if (len <= 0) {
        return pki_fail(err, PSC_NOMEM, "make a certificate request");
    }
    psc_buf_append(der, bytes, (size_t)len);
    OPENSSL_free(bytes);
    int rc = psc_buf_error(der);
    if (rc != PSC_OK) {
        psc_error_set(err, rc, "make a certificate request: %s",
                      psc_strerror(rc));
    }
    return rc;
}

/* The id in @uri if it is a host's, else 0. Digits only, no leading zero, so
 * that an id has one spelling. */
static int64_t parse_host_uri(const ASN1_IA5STRING *uri)
{
    static const char prefix[] = PKI_HOST_URI;
    const size_t skip = sizeof(prefix) - 1;
    const unsigned char *text = ASN1_STRING_get0_data(uri);
    size_t len = (size_t)ASN1_STRING_length(uri);
    if (len <= skip || len > skip + 19 || memcmp(text, prefix, skip) != 0 ||
        text[skip] == '0') {
        return 0;
    }
    uint64_t id = 0;
    for (size_t i = skip; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }
        id = id * 10 + (uint64_t)(text[i] - '0');
    }
    return id <= INT64_MAX ? (int64_t)id : 0;
}

int psc_cert_host_id(X509 *cert, int64_t *host_id)
{
    GENERAL_NAMES *names =
        X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int64_t found = 0;
    int n_found = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_URI) {
            found = parse_host_uri(name->d.uniformResourceIdentifier);
            n_found += 1;
        }
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    if (n_found != 1 || found == 0) {
        return PSC_FORMAT;
    }
    *host_id = found;
    return PSC_OK;
}

/* @time in microseconds since 1970, or PSC_FORMAT. */
static int time_to_us(const ASN1_TIME *time, int64_t *us)
{
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int days = 0;
    int seconds = 0;
    int ok = epoch != NULL && ASN1_TIME_diff(&days, &seconds, epoch, time);
    int rc = ok ? PSC_OK : epoch == NULL ? PSC_NOMEM : PSC_FORMAT;
    ASN1_TIME_free(epoch);
    *us = ((int64_t)days * 86400 + seconds) * 1000000;
    return rc;
}

int psc_cert_validity(X509 *cert, int64_t *not_before_us, int64_t *not_after_us)
{
    int rc = time_to_us(X509_get0_notBefore(cert), not_before_us);
    return rc != PSC_OK ? rc
                        : time_to_us(X509_get0_notAfter(cert), not_after_us);
}

/* --- tokens --- */

static const char base64url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* 32 bytes as 43 characters. */
static void encode_part(const uint8_t in[32], char out[TOKEN_PART_CHARS])
{
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t at = 0;
    for (size_t i = 0; i < 32; i++) {
        bits = bits << 8 | in[i];
        n_bits += 8;
        while (n_bits >= 6) {
            n_bits -= 6;
            out[at++] = base64url[bits >> n_bits & 63];
        }
    }
    out[at] = base64url[bits << (6 - n_bits) & 63];
}

/* The inverse. Only the one true spelling is accepted. */
static bool decode_part(const char in[TOKEN_PART_CHARS], uint8_t out[32])
{
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t at = 0;
    for (size_t i = 0; i < TOKEN_PART_CHARS; i++) {
        const char *digit = in[i] != '\0' ? strchr(base64url, in[i]) : NULL;
        if (digit == NULL) {
            return false;
        }
        bits = bits << 6 | (uint32_t)(digit - base64url);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[at++] = (uint8_t)(bits >> n_bits);
        }
    }
    return (bits & ((1u << n_bits) - 1)) == 0;
}

static const char token_prefix[] = "psc1.";

int psc_token_parse(const char *text, struct psc_token *token,
                    struct psc_error *err)
{
    const size_t prefix = sizeof(token_prefix) - 1;
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) {
        len--; /* as a file's last line has it */
    }
    const char *secret = text + prefix;
    if (len != TOKEN_CHARS || memcmp(text, token_prefix, prefix) != 0 ||
        secret[TOKEN_PART_CHARS] != '.' ||
        !decode_part(secret, token->secret) ||
        !decode_part(secret + TOKEN_PART_CHARS + 1, token->ca_sha256)) {
        OPENSSL_cleanse(token, sizeof(*token));
        return psc_error_set(err, PSC_FORMAT,
                             "this is no enrolment token: it has %zu "
                             "characters and should be as \"poolscope token "
                             "create\" printed it, psc1.… of %d",
                             len, TOKEN_CHARS);
    }
    return PSC_OK;
}

void psc_token_format(const struct psc_token *token,
                      char out[PSC_TOKEN_TEXT_BYTES])
{
    char *at = out;
    memcpy(at, token_prefix, sizeof(token_prefix) - 1);
    at += sizeof(token_prefix) - 1;
    encode_part(token->secret, at);
    at += TOKEN_PART_CHARS;
    *at++ = '.';
    encode_part(token->ca_sha256, at);
    at[TOKEN_PART_CHARS] = '\0';
}
