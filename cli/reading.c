/* One look at a machine's tags. See reading.h. */
#include "cli/reading.h"

#include <stdlib.h>
#include <string.h>

#define NAMES_MAX_BYTES ((size_t)8 * 1024 * 1024)

void reading_init(struct reading *r)
{
    memset(r, 0, sizeof *r);
    psc_map_init(&r->names, SAMPLE_MAX_TAGS, NAMES_MAX_BYTES);
}

void reading_fini(struct reading *r)
{
    psc_map_fini(&r->names);
    free(r->tags);
    memset(r, 0, sizeof *r);
}

void reading_clear(struct reading *r)
{
    psc_map_clear(&r->names);
}

enum pool reading_pool(const struct reading *r, uint32_t i)
{
    return (enum pool)psc_map_key(&r->names, i).data[0];
}

struct psc_bytes reading_text(const struct reading *r, uint32_t i)
{
    struct psc_bytes key = psc_map_key(&r->names, i);
    struct psc_bytes text = {key.data + 1, key.len - 1};

    return text;
}

const struct reading_tag *reading_same(const struct reading *other,
                                       const struct reading *r, uint32_t i)
{
    struct psc_bytes key = psc_map_key(&r->names, i);
    uint32_t at = psc_map_find(&other->names, key.data, key.len);

    return at == PSC_MAP_NONE ? NULL : &other->tags[at];
}

static int put_key(struct reading *r, const void *key, size_t len,
                   const struct reading_tag *tag)
{
    if (r->names.count == r->cap) {
        uint32_t cap = r->cap == 0 ? 256 : r->cap * 2;
        void *grown = realloc(r->tags, cap * sizeof *r->tags);
        if (!grown) {
            return PSC_NOMEM;
        }
        r->tags = grown;
        r->cap = cap;
    }
    uint32_t i;
    int rc = psc_map_add(&r->names, key, len, &i);
    if (rc != 0) {
        return rc;
    }
    r->tags[i] = *tag;
    return 0;
}

int reading_put(struct reading *r, enum pool pool, const char *text, size_t len,
                const struct reading_tag *tag)
{
    uint8_t key[TABLE_KEY_MAX_BYTES];

    if (len + 1 > sizeof key) {
        return PSC_LIMIT;
    }
    key[0] = (uint8_t)pool;
    memcpy(key + 1, text, len);
    return put_key(r, key, len + 1, tag);
}

int reading_take(struct reading *r, const struct table *tags)
{
    for (uint32_t i = 0; i < tags->names.count; i++) {
        const struct table_entry *entry = &tags->entries[i];
        const int64_t *v = table_values(tags, i);
        struct psc_bytes key = psc_map_key(&tags->names, i);
        if (entry->generation != tags->generation || key.len < 2) {
            continue;
        }
        struct reading_tag tag = {.flags = entry->flags,
                                  .allocs = v[COL_ALLOCS],
                                  .frees = v[COL_FREES],
                                  .outstanding = v[COL_OUTSTANDING],
                                  .bytes = v[COL_BYTES]};
        int rc = put_key(r, key.data, key.len, &tag);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
