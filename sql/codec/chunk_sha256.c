/* SHA-256 by OpenSSL, for those who do not bring their own. */
#include <openssl/sha.h>

#include "sql/codec/chunk.h"

static bool sha256(const void *data, size_t len,
                   uint8_t out[CHUNK_DIGEST_BYTES])
{
    return SHA256(data, len, out) != NULL;
}

const struct chunk_digest chunk_openssl = {.sha256 = sha256};
