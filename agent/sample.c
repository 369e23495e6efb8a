/* The sample that sources write: see sample.h. Keys are built on the stack,
 * so that a steady tick allocates nothing. */
#include "agent/sample.h"

#include <string.h>

enum {
    DRIVERS_MAX_BYTES = 512 * 1024,
    ALIASES_MAX_BYTES = 128 * 1024,
    EVENTS_MAX_BYTES = 256 * 1024,
};

void sample_init(struct sample *s)
{
    memset(s, 0, sizeof(*s));
    table_init(&s->tags, TABLE_COLUMNS_MAX, SAMPLE_MAX_TAGS,
               TABLE_MAX_TAG_KEY_BYTES);
    table_init(&s->counters, 1, SAMPLE_MAX_COUNTERS,
               TABLE_MAX_COUNTER_KEY_BYTES);
    psc_buf_init(&s->drivers, DRIVERS_MAX_BYTES);
    psc_buf_init(&s->aliases, ALIASES_MAX_BYTES);
    psc_buf_init(&s->events, EVENTS_MAX_BYTES);
}

void sample_fini(struct sample *s)
{
    table_fini(&s->tags);
    table_fini(&s->counters);
    psc_buf_fini(&s->drivers);
    psc_buf_fini(&s->aliases);
    psc_buf_fini(&s->events);
}

int sample_tag(struct sample *s, enum pool pool, const char *text, size_t len,
               const struct tag_values *values)
{
    uint8_t key[TABLE_KEY_MAX_BYTES];
    if (len > SAMPLE_TAG_MAX_BYTES) {
        return PSC_LIMIT;
    }
    key[0] = (uint8_t)pool;
    memcpy(key + 1, text, len);
    int64_t columns[TABLE_COLUMNS_MAX] = {0};
    columns[COL_ALLOCS] = values->allocs;
    columns[COL_FREES] = values->frees;
    columns[COL_OUTSTANDING] = values->outstanding;
    columns[COL_BYTES] = values->bytes;
    return table_put(&s->tags, s->source, key, len + 1, values->flags, columns);
}

static int put_counter(struct sample *s, const char *name, const char *instance,
                       uint8_t flags, int64_t value)
{
    uint8_t key[TABLE_KEY_MAX_BYTES];
    size_t name_len = strlen(name);
    size_t instance_len = strlen(instance);
    if (name_len + 1 + instance_len > sizeof(key)) {
        return PSC_LIMIT;
    }
    memcpy(key, name, name_len);
    key[name_len] = 0;
    memcpy(key + name_len + 1, instance, instance_len);
    return table_put(&s->counters, s->source, key, name_len + 1 + instance_len,
                     flags, &value);
}

int sample_counter(struct sample *s, const char *name, const char *instance,
                   int64_t value)
{
    return put_counter(s, name, instance, 0, value);
}

int sample_counter_real(struct sample *s, const char *name,
                        const char *instance, double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return put_counter(s, name, instance, ENTRY_REAL, bits);
}

void sample_driver(struct sample *s, const struct driver_record *driver)
{
    if (s->drivers.len == 0) {
        record_list_begin(&s->drivers);
    }
    record_put_driver(&s->drivers, driver);
}

void sample_alias(struct sample *s, const struct alias_record *alias)
{
    if (s->aliases.len == 0) {
        record_list_begin(&s->aliases);
    }
    record_put_alias(&s->aliases, alias);
}

int sample_event(struct sample *s, const struct event_record *event)
{
    if (s->n_events == 0) {
        psc_buf_reset(&s->events);
        record_list_begin(&s->events);
    }
    size_t before = s->events.len;
    record_put_event(&s->events, event);
    int rc = psc_buf_error(&s->events);
    if (rc != PSC_OK) {
        s->events.len = before;
        s->events.error = PSC_OK;
        return rc;
    }
    s->n_events++;
    return PSC_OK;
}

bool sample_has_room(struct sample *s, size_t n, size_t bytes)
{
    bool fits = psc_buf_reserve(&s->events, n * bytes) == PSC_OK;
    s->events.error = PSC_OK; /* what is in it is whole */
    return fits;
}
