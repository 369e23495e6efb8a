/* One sample as aligned text. */
#include "agent/print.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What qsort() needs to see: it has no argument for it. */
struct row {
    const struct table *table;
    uint32_t index;
};

static int compare_tags(const void *a, const void *b)
{
    const struct row *x = a;
    const struct row *y = b;
    struct psc_bytes kx = psc_map_key(&x->table->names, x->index);
    struct psc_bytes ky = psc_map_key(&y->table->names, y->index);
    if (kx.data[0] != ky.data[0]) {
        return kx.data[0] < ky.data[0] ? -1 : 1;
    }
    int64_t bx = table_values(x->table, x->index)[COL_BYTES];
    int64_t by = table_values(y->table, y->index)[COL_BYTES];
    if (bx != by) {
        return bx > by ? -1 : 1;
    }
    return x->index < y->index ? -1 : 1;
}

static int compare_counters(const void *a, const void *b)
{
    const struct row *x = a;
    const struct row *y = b;
    struct psc_bytes kx = psc_map_key(&x->table->names, x->index);
    struct psc_bytes ky = psc_map_key(&y->table->names, y->index);
    int order = memcmp(kx.data, ky.data, kx.len < ky.len ? kx.len : ky.len);
    return order != 0 ? order : (kx.len > ky.len) - (kx.len < ky.len);
}

/* The live entries of @t in order; NULL without memory. The caller frees. */
static struct row *sorted(const struct table *t, uint32_t *count,
                          int (*compare)(const void *, const void *))
{
    struct row *rows = calloc(t->names.count + 1u, sizeof(*rows));
    *count = 0;
    for (uint32_t i = 0; rows != NULL && i < t->names.count; i++) {
        if (t->entries[i].live) {
            rows[*count].table = t;
            rows[*count].index = i;
            (*count)++;
        }
    }
    if (rows != NULL) {
        qsort(rows, *count, sizeof(*rows), compare);
    }
    return rows;
}

static void print_number(FILE *out, bool there, int64_t value)
{
    if (there) {
        (void)fprintf(out, " %14" PRId64, value);
    } else {
        (void)fprintf(out, " %14s", "-");
    }
}

static int print_tags(FILE *out, const struct table *t)
{
    uint32_t count;
    struct row *rows = sorted(t, &count, compare_tags);
    if (rows == NULL) {
        return PSC_NOMEM;
    }
    (void)fprintf(out, "\n%-8s %-40s %14s %14s %14s %14s\n", "POOL", "TAG",
                  "ALLOCS", "FREES", "OUTSTANDING", "BYTES");
    for (uint32_t i = 0; i < count; i++) {
        struct psc_bytes key = psc_map_key(&t->names, rows[i].index);
        const int64_t *v = table_values(t, rows[i].index);
        unsigned flags = t->entries[rows[i].index].put_flags;
        (void)fprintf(out, "%-8s %-40.*s", pool_name(key.data[0]),
                      (int)(key.len - 1), (const char *)key.data + 1);
        print_number(out, (flags & TAG_ALLOCS) != 0, v[COL_ALLOCS]);
        print_number(out, (flags & TAG_FREES) != 0, v[COL_FREES]);
        print_number(out, (flags & TAG_OUTSTANDING) != 0, v[COL_OUTSTANDING]);
        print_number(out, (flags & TAG_BYTES) != 0, v[COL_BYTES]);
        (void)fputc('\n', out);
    }
    free(rows);
    return PSC_OK;
}

static int print_counters(FILE *out, const struct table *t)
{
    uint32_t count;
    struct row *rows = sorted(t, &count, compare_counters);
    if (rows == NULL) {
        return PSC_NOMEM;
    }
    (void)fprintf(out, "\n%-50s %-30s %20s\n", "COUNTER", "INSTANCE", "VALUE");
    for (uint32_t i = 0; i < count; i++) {
        struct psc_bytes key = psc_map_key(&t->names, rows[i].index);
        const char *name = (const char *)key.data;
        int name_len = (int)strnlen(name, key.len);
        int rest = (int)key.len - name_len - 1;
        int64_t v = table_values(t, rows[i].index)[0];
        (void)fprintf(out, "%-50.*s %-30.*s", name_len, name,
                      rest > 0 ? rest : 0, rest > 0 ? name + name_len + 1 : "");
        if ((t->entries[rows[i].index].put_flags & ENTRY_REAL) != 0) {
            double real;
            memcpy(&real, &v, sizeof(real));
            (void)fprintf(out, " %20.6g\n", real);
        } else {
            (void)fprintf(out, " %20" PRId64 "\n", v);
        }
    }
    free(rows);
    return PSC_OK;
}

static void print_sources(FILE *out, const struct collect *c)
{
    (void)fprintf(out, "\n%-16s %-12s %10s  %s\n", "SOURCE", "STATE", "CPU ms",
                  "MESSAGE");
    for (unsigned i = 0; i < c->n_slots; i++) {
        const struct collect_slot *slot = &c->slots[i];
        (void)fprintf(out, "%-16s %-12s %10.2f  %s\n", slot->source->name,
                      source_state_name(slot->health),
                      (double)slot->cost_us / 1000.0, slot->message);
    }
}

static void print_drivers(FILE *out, const struct sample *s)
{
    struct record_reader r;
    struct driver_record d;
    record_reader_init(&r, psc_buf_bytes(&s->drivers));
    (void)fprintf(out, "\n%-32s %-24s %-26s %12s\n", "DRIVER", "VERSION",
                  "SRCVERSION", "BYTES");
    while (record_next_driver(&r, &d)) {
        (void)fprintf(out, "%-32.*s %-24.*s %-26.*s %12" PRIu64 "\n",
                      (int)d.name.len, (const char *)d.name.data,
                      (int)d.version.len, (const char *)d.version.data,
                      (int)d.srcversion.len, (const char *)d.srcversion.data,
                      d.size_bytes);
    }
}

static void print_aliases(FILE *out, const struct sample *s)
{
    struct record_reader r;
    struct alias_record a;
    record_reader_init(&r, psc_buf_bytes(&s->aliases));
    (void)fprintf(out, "\n%-8s %-32s %s\n", "POOL", "TAG", "ALSO");
    while (record_next_alias(&r, &a)) {
        (void)fprintf(out, "%-8s %-32.*s %.*s\n", pool_name(a.pool),
                      (int)a.tag.len, (const char *)a.tag.data,
                      (int)a.names.len, (const char *)a.names.data);
    }
}

static void print_events(FILE *out, const struct sample *s)
{
    struct record_reader r;
    struct event_record e;
    record_reader_init(&r, psc_buf_bytes(&s->events));
    (void)fprintf(out, "\n%-18s %-10s %-28s %s\n", "AT (unix)", "SOURCE",
                  "EVENT", "MESSAGE");
    while (record_next_event(&r, &e)) {
        (void)fprintf(out, "%-18.6f %-10.*s %-28.*s %.*s\n",
                      (double)e.at_us / 1e6, (int)e.source.len,
                      (const char *)e.source.data, (int)e.event_id.len,
                      (const char *)e.event_id.data, (int)e.message.len,
                      (const char *)e.message.data);
    }
}

int print_text(FILE *out, const struct collect *c,
               const struct host_facts *facts)
{
    (void)fprintf(out, "%s: %s %s (%s), %.1f GiB of memory\n", facts->name,
                  facts->os, facts->os_version, facts->os_build,
                  (double)facts->ram_bytes / (1024.0 * 1024 * 1024));
    print_sources(out, c);
    int rc = print_tags(out, &c->sample.tags);
    if (rc == PSC_OK) {
        rc = print_counters(out, &c->sample.counters);
    }
    if (c->sample.drivers.len > 0) {
        print_drivers(out, &c->sample);
    }
    if (c->sample.aliases.len > 0) {
        print_aliases(out, &c->sample);
    }
    if (c->sample.n_events > 0) {
        print_events(out, &c->sample);
    }
    return rc == PSC_OK && (fflush(out) != 0 || ferror(out)) ? PSC_IO : rc;
}
