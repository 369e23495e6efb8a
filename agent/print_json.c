/* One sample as a JSON object. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "agent/print.h"
#include "agent/text.h"

enum { STRING_MAX_BYTES = 1024 * 1024 };

/* Where the JSON goes. */
struct json {
    FILE *out;
    struct psc_buf text; /* a string being escaped */
    bool first;          /* nothing stands before in this array or object */
};

static void put_comma(struct json *j)
{
    if (!j->first) {
        (void)fputc(',', j->out);
    }
    j->first = false;
}

static void put_string(struct json *j, const void *data, size_t len)
{
    psc_buf_reset(&j->text);
    text_put_json(&j->text, text_of(len == 0 ? "" : data, len));
    if (psc_buf_error(&j->text) == PSC_OK) {
        (void)fwrite(j->text.data, 1, j->text.len, j->out);
    } else {
        (void)fputs("null", j->out);
    }
}

static void put_key(struct json *j, const char *key)
{
    put_comma(j);
    put_string(j, key, strlen(key));
    (void)fputc(':', j->out);
}

static void put_bytes(struct json *j, const char *key, struct psc_bytes value)
{
    put_key(j, key);
    put_string(j, value.data, value.len);
}

static void put_text(struct json *j, const char *key, const char *value)
{
    put_key(j, key);
    put_string(j, value, strlen(value));
}

static void put_int(struct json *j, const char *key, int64_t value)
{
    put_key(j, key);
    (void)fprintf(j->out, "%" PRId64, value);
}

static void put_real(struct json *j, const char *key, double value)
{
    put_key(j, key);
    if (isfinite(value)) {
        (void)fprintf(j->out, "%.17g", value);
    } else {
        (void)fputs("null", j->out);
    }
}

static void open_array(struct json *j, const char *key)
{
    put_key(j, key);
    (void)fputc('[', j->out);
    j->first = true;
}

static void open_item(struct json *j)
{
    put_comma(j);
    (void)fputc('{', j->out);
    j->first = true;
}

static void close_with(struct json *j, char bracket)
{
    (void)fputc(bracket, j->out);
    j->first = false;
}

static void put_host(struct json *j, const struct host_facts *f)
{
    char hex[33];
    for (unsigned i = 0; i < 16; i++) {
        (void)snprintf(hex + (size_t)2 * i, 3, "%02x", f->boot_id[i]);
    }
    put_text(j, "host", f->name);
    put_text(j, "os", f->os);
    put_text(j, "os_version", f->os_version);
    put_text(j, "os_build", f->os_build);
    put_text(j, "boot_id", hex);
    put_real(j, "boot_at", (double)f->boot_wall_us / 1e6);
    put_int(j, "ram_bytes", (int64_t)f->ram_bytes);
}

static void put_sources(struct json *j, const struct collect *c)
{
    open_array(j, "sources");
    for (unsigned i = 0; i < c->n_slots; i++) {
        const struct collect_slot *slot = &c->slots[i];
        open_item(j);
        put_text(j, "source", slot->source->name);
        put_text(j, "state", source_state_name(slot->health));
        put_text(j, "message", slot->message);
        put_int(j, "cpu_us", slot->cost_us);
        close_with(j, '}');
    }
    close_with(j, ']');
}

static void put_tags(struct json *j, const struct table *t)
{
    static const char *const names[] = {"allocs", "frees", "outstanding",
                                        "bytes"};
    open_array(j, "tags");
    for (uint32_t i = 0; i < t->names.count; i++) {
        const struct table_entry *e = &t->entries[i];
        if (!e->live) {
            continue;
        }
        struct psc_bytes key = psc_map_key(&t->names, i);
        struct psc_bytes tag = {key.data + 1, key.len - 1};
        open_item(j);
        put_text(j, "pool", pool_name(key.data[0]));
        put_bytes(j, "tag", tag);
        for (unsigned col = 0; col < TABLE_COLUMNS_MAX; col++) {
            if ((e->put_flags & 1u << col) != 0) {
                put_int(j, names[col], table_values(t, i)[col]);
            }
        }
        close_with(j, '}');
    }
    close_with(j, ']');
}

static void put_counters(struct json *j, const struct table *t)
{
    open_array(j, "counters");
    for (uint32_t i = 0; i < t->names.count; i++) {
        if (!t->entries[i].live) {
            continue;
        }
        struct psc_bytes key = psc_map_key(&t->names, i);
        size_t name_len = strnlen((const char *)key.data, key.len);
        struct psc_bytes name = {key.data, name_len};
        struct psc_bytes instance = {key.data + name_len, 0};
        if (name_len + 1 < key.len) {
            instance.data++;
            instance.len = key.len - name_len - 1;
        }
        int64_t v = table_values(t, i)[0];
        open_item(j);
        put_bytes(j, "counter", name);
        put_bytes(j, "instance", instance);
        if ((t->entries[i].put_flags & ENTRY_REAL) != 0) {
            double real;
            memcpy(&real, &v, sizeof(real));
            put_real(j, "value", real);
        } else {
            put_int(j, "value", v);
        }
        close_with(j, '}');
    }
    close_with(j, ']');
}

static void put_drivers(struct json *j, const struct sample *s)
{
    struct record_reader r;
    struct driver_record d;
    record_reader_init(&r, psc_buf_bytes(&s->drivers));
    open_array(j, "drivers");
    while (record_next_driver(&r, &d)) {
        open_item(j);
        put_bytes(j, "driver", d.name);
        put_bytes(j, "version", d.version);
        put_bytes(j, "srcversion", d.srcversion);
        put_bytes(j, "company", d.company);
        put_bytes(j, "path", d.path);
        put_int(j, "size_bytes", (int64_t)d.size_bytes);
        close_with(j, '}');
    }
    close_with(j, ']');
}

static void put_aliases(struct json *j, const struct sample *s)
{
    struct record_reader r;
    struct alias_record a;
    record_reader_init(&r, psc_buf_bytes(&s->aliases));
    open_array(j, "aliases");
    while (record_next_alias(&r, &a)) {
        open_item(j);
        put_text(j, "pool", pool_name(a.pool));
        put_bytes(j, "tag", a.tag);
        put_bytes(j, "names", a.names);
        close_with(j, '}');
    }
    close_with(j, ']');
}

static void put_events(struct json *j, const struct sample *s)
{
    struct record_reader r;
    struct event_record e;
    record_reader_init(&r, psc_buf_bytes(&s->events));
    open_array(j, "events");
    while (record_next_event(&r, &e)) {
        open_item(j);
        put_real(j, "at", (double)e.at_us / 1e6);
        put_bytes(j, "source", e.source);
        put_bytes(j, "event_id", e.event_id);
        put_bytes(j, "message", e.message);
        if (e.details.len > 0) {
            /* The source's own JSON object. */
            put_key(j, "details");
            (void)fwrite(e.details.data, 1, e.details.len, j->out);
        }
        close_with(j, '}');
    }
    close_with(j, ']');
}

int print_json(FILE *out, const struct collect *c,
               const struct host_facts *facts)
{
    struct json j = {.out = out, .first = true};
    psc_buf_init(&j.text, STRING_MAX_BYTES);
    (void)fputc('{', out);
    put_host(&j, facts);
    put_sources(&j, c);
    put_tags(&j, &c->sample.tags);
    put_counters(&j, &c->sample.counters);
    put_drivers(&j, &c->sample);
    put_aliases(&j, &c->sample);
    put_events(&j, &c->sample);
    (void)fputs("}\n", out);
    psc_buf_fini(&j.text);
    return fflush(out) != 0 || ferror(out) ? PSC_IO : PSC_OK;
}
