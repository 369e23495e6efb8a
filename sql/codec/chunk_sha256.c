/* SHA-256 by OpenSSL, for those who do not bring their own. Looked up once,
 * since that takes longer than the digest of a few hundred bytes. */
#include <openssl/evp.h>
#include <pthread.h>

#include "sql/codec/chunk.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *algorithm; /* until the process ends; NULL: there is none */

static void look_up(void)
{
    algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static bool sha256(const void *data, size_t len,
                   uint8_t out[CHUNK_DIGEST_BYTES])
{
    return pthread_once(&once, look_up) == 0 && algorithm != NULL &&
           EVP_Digest(data, len, out, NULL, algorithm, NULL) == 1;
}

const struct chunk_digest chunk_openssl = {.sha256 = sha256};
