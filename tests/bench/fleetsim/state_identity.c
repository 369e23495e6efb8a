/* Keys and certificates of the fleet: a line of text each. */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/fleetsim/state_private.h"

enum { DER_MAX_BYTES = 4096, LINE_BYTES = 4 * DER_MAX_BYTES };

/* The base64 word at *@at as bytes; NULL if it is none. */
static uint8_t *decode_word(const char *text, uint32_t *len)
{
    uint8_t out[DER_MAX_BYTES];
    size_t n = strlen(text);
    if (n == 0 || n % 4 != 0 || n / 4 * 3 > sizeof(out)) {
        return NULL;
    }
    int got = EVP_DecodeBlock(out, (const uint8_t *)text, (int)n);
    if (got <= 0) {
        return NULL;
    }
    got -= (text[n - 1] == '=' ? 1 : 0) + (text[n - 2] == '=' ? 1 : 0);
    uint8_t *bytes = malloc((size_t)got);
    if (bytes != NULL) {
        memcpy(bytes, out, (size_t)got);
        *len = (uint32_t)got;
    }
    return bytes;
}

static int grow_identities(struct state *s, uint32_t number)
{
    if (number < s->n_identities) {
        return PSC_OK;
    }
    uint32_t n = number + number / 2 + 64;
    struct state_identity *grown =
        realloc(s->identities, n * sizeof(*s->identities));
    if (grown == NULL) {
        return PSC_NOMEM;
    }
    memset(grown + s->n_identities, 0,
           (n - s->n_identities) * sizeof(*s->identities));
    s->identities = grown;
    s->n_identities = n;
    return PSC_OK;
}

int state_read_identities(struct state *s, struct psc_error *err)
{
    FILE *file = NULL;
    int rc = state_open_file(s, "identities", "r", &file, err);
    char line[LINE_BYTES];
    while (rc == PSC_OK && file != NULL &&
           fgets(line, sizeof(line), file) != NULL) {
        char key[LINE_BYTES], cert[LINE_BYTES];
        uint32_t number;
        if (strchr(line, '\n') == NULL ||
            sscanf(line, "%u %s %s", &number, key, cert) != 3 ||
            number > 100000000) {
            continue;
        }
        rc = grow_identities(s, number);
        if (rc == PSC_OK && s->identities[number].cert == NULL) {
            struct state_identity *id = &s->identities[number];
            id->key = decode_word(key, &id->key_len);
            id->cert = decode_word(cert, &id->cert_len);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return rc;
}

int state_add_identity(struct state *s, uint32_t number, struct psc_bytes key,
                       struct psc_bytes cert, struct psc_error *err)
{
    int rc = grow_identities(s, number);
    if (rc != PSC_OK || key.len > DER_MAX_BYTES || cert.len > DER_MAX_BYTES) {
        return psc_error_set(err, PSC_NOMEM, "no room for an identity");
    }
    uint8_t key_text[2 * DER_MAX_BYTES], cert_text[2 * DER_MAX_BYTES];
    (void)EVP_EncodeBlock(key_text, key.data, (int)key.len);
    (void)EVP_EncodeBlock(cert_text, cert.data, (int)cert.len);
    struct state_identity *id = &s->identities[number];
    free(id->key);
    free(id->cert);
    id->key = decode_word((char *)key_text, &id->key_len);
    id->cert = decode_word((char *)cert_text, &id->cert_len);
    if (id->key == NULL || id->cert == NULL ||
        fprintf(s->identity_file, "%u %s %s\n", number, key_text, cert_text) <
            0) {
        return psc_error_set(err, PSC_IO, "cannot keep an identity");
    }
    return PSC_OK;
}
