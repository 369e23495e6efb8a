/* Keys that share prefixes. */
#include "proto/names.h"

#include <string.h>

uint32_t name_count(struct psc_bytes names)
{
    struct psc_reader r;
    psc_reader_init(&r, names);
    uint32_t n = 0;
    while (psc_reader_left(&r) > 0) {
        (void)psc_read_u8(&r); /* flags */
        (void)psc_read_u8(&r); /* shared */
        (void)psc_read_string(&r);
        n += r.failed ? 0 : 1;
    }
    return n;
}

void name_reader_init(struct name_reader *r, struct psc_bytes names,
                      struct name_chain *chain)
{
    psc_reader_init(&r->in, names);
    r->chain = chain;
    r->len = 0;
    memcpy(r->key, chain->start, sizeof(chain->start));
}

bool name_reader_next(struct name_reader *r)
{
    struct name_chain *chain = r->chain;
    if (psc_reader_left(&r->in) == 0) {
        return false;
    }
    r->flags = psc_read_u8(&r->in);
    size_t shared = psc_read_u8(&r->in);
    struct psc_bytes rest = psc_read_string(&r->in);
    size_t len = shared + rest.len;
    if (r->in.failed || shared > chain->len || len == 0 ||
        len > TABLE_KEY_MAX_BYTES) {
        r->in.failed = 1;
        return false;
    }
    if (rest.len > 0) {
        memcpy(r->key + shared, rest.data, rest.len);
    }
    r->len = len;
    chain->len =
        (uint8_t)(len < sizeof(chain->start) ? len : sizeof(chain->start));
    memcpy(chain->start, r->key, sizeof(chain->start));
    return true;
}
