/* Rows of the fresh tier, packed by the agent's own packer. */
#include "tests/lib/fresh.h"

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/pgparam.h"
#include "common/clock.h"
#include "proto/pack.h"
#include "proto/stored.h"

enum { DELTAS_MAX = 63, ROW_MAX_BYTES = 16 * 1024 * 1024, UUID_BYTES = 16 };

#define HOUR_US (3600 * PSC_US_PER_S)

static void *make(size_t n, size_t bytes)
{
    void *made = calloc(n > 0 ? n : 1, bytes);
    assert_non_null(made);
    return made;
}

static void init_table(struct fresh_table *t, uint32_t columns, uint32_t n_ids,
                       bool keeps)
{
    *t = (struct fresh_table){
        .columns = columns, .n_ids = n_ids, .keeps = keeps};
    t->now = make(n_ids, sizeof(*t->now));
    t->then = make(n_ids, sizeof(*t->then));
    t->dictionary = make(n_ids + 1, sizeof(*t->dictionary));
    t->position = make(n_ids, sizeof(*t->position));
    psc_buf_init(&t->gone, ROW_MAX_BYTES);
    psc_buf_init(&t->gaps, ROW_MAX_BYTES);
    psc_buf_init(&t->values, ROW_MAX_BYTES);
    psc_buf_init(&t->data, ROW_MAX_BYTES);
}

static void fini_table(struct fresh_table *t)
{
    for (uint32_t i = 0; i < t->n_rows; i++) {
        free(t->rows[i].cells);
    }
    free(t->rows);
    free(t->now);
    free(t->then);
    free(t->dictionary);
    free(t->position);
    psc_buf_fini(&t->gone);
    psc_buf_fini(&t->gaps);
    psc_buf_fini(&t->values);
    psc_buf_fini(&t->data);
}

void fresh_host_init(struct fresh_host *h, int64_t host_id, uint32_t n_tags,
                     uint32_t n_counters, bool keeps)
{
    *h = (struct fresh_host){.host_id = host_id};
    init_table(&h->tags, TABLE_COLUMNS_MAX, n_tags, keeps);
    init_table(&h->counters, 1, n_counters, keeps);
}

void fresh_host_fini(struct fresh_host *h)
{
    fini_table(&h->tags);
    fini_table(&h->counters);
}

/* ---- packing ---- */

static void add_name(struct fresh_table *t, uint32_t id)
{
    t->position[id - 1] = t->n_dictionary;
    t->dictionary[t->n_dictionary++] = id;
    stored_name(&t->data, t->now[id - 1].flags, id);
}

/* A keyframe's dictionary: nobody's entry, then what is present, and some of
 * what is not. */
static void restate_names(struct fresh_table *t)
{
    uint32_t n = 1;
    for (uint32_t i = 0; i < t->n_ids; i++) {
        t->position[i] = -1;
        n += t->now[i].present || (i & 3) == 0;
    }
    stored_begin(&t->data, n);
    stored_name(&t->data, TAG_BYTES, 0);
    t->dictionary[0] = 0;
    t->n_dictionary = 1;
    for (uint32_t i = 0; i < t->n_ids; i++) {
        if (t->now[i].present || (i & 3) == 0) {
            add_name(t, i + 1);
        }
    }
    memset(t->then, 0, t->n_ids * sizeof(*t->then));
}

static void new_names(struct fresh_table *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_ids; i++) {
        n += t->now[i].present && t->position[i] < 0;
    }
    stored_begin(&t->data, n);
    for (uint32_t i = 0; n > 0 && i < t->n_ids; i++) {
        if (t->now[i].present && t->position[i] < 0) {
            add_name(t, i + 1);
        }
    }
}

static void pack_gone(struct fresh_table *t)
{
    uint32_t expected = 0;
    for (uint32_t at = 0; at < t->n_dictionary; at++) {
        uint32_t id = t->dictionary[at];
        if (id != 0 && t->then[id - 1].present && !t->now[id - 1].present) {
            psc_buf_varint(&t->gone, at - expected);
            expected = at + 1;
            memset(&t->then[id - 1], 0, sizeof(*t->then));
        }
    }
}

/* The columns to send of the entry at position @at; false: not listed. */
static bool differing(const struct fresh_table *t, uint32_t at, unsigned *mask)
{
    uint32_t id = t->dictionary[at];
    if (id == 0 || !t->now[id - 1].present) {
        return false;
    }
    *mask = pack_differing(t->columns, t->now[id - 1].flags,
                           t->now[id - 1].values, t->then[id - 1].values);
    return *mask != 0 || !t->then[id - 1].present;
}

static void pack_changes(struct fresh_table *t)
{
    struct pack p;
    unsigned mask;
    pack_init(&p, t->columns, 0, &t->gaps, &t->values);
    for (uint32_t at = 0; at < t->n_dictionary; at++) {
        if (differing(t, at, &mask)) {
            pack_scan(&p, mask);
        }
    }
    pack_begin(&p);
    for (uint32_t at = 0; at < t->n_dictionary; at++) {
        if (differing(t, at, &mask)) {
            uint32_t i = t->dictionary[at] - 1;
            pack_entry(&p, at, t->now[i].flags, mask, t->now[i].values,
                       t->then[i].values);
        }
    }
}

bool fresh_pack(struct fresh_table *t, int64_t at_us, bool keyframe)
{
    keyframe = keyframe || t->keyframe_us == 0 || t->deltas == DELTAS_MAX ||
               t->last_us / HOUR_US != at_us / HOUR_US ||
               at_us - t->keyframe_us >= HOUR_US;
    psc_buf_reset(&t->gone);
    psc_buf_reset(&t->gaps);
    psc_buf_reset(&t->values);
    psc_buf_reset(&t->data);
    if (keyframe) {
        restate_names(t);
        t->keyframe_us = at_us;
        t->deltas = 0;
    } else {
        new_names(t);
        t->deltas++;
    }
    t->last_us = at_us;
    pack_gone(t);
    pack_changes(t);
    struct grid_part part = {psc_buf_bytes(&t->gone), psc_buf_bytes(&t->gaps),
                             psc_buf_bytes(&t->values)};
    stored_numbers(&t->data, &part);
    assert_int_equal(psc_buf_error(&t->data), PSC_OK);
    memcpy(t->then, t->now, t->n_ids * sizeof(*t->then));
    return keyframe;
}

/* ---- storing ---- */

static void keep(struct fresh_table *t, int64_t n, int64_t at_us)
{
    if (!t->keeps) {
        return;
    }
    if (t->n_rows == t->cap_rows) {
        t->cap_rows = t->cap_rows > 0 ? t->cap_rows * 2 : 64;
        t->rows = realloc(t->rows, t->cap_rows * sizeof(*t->rows));
        assert_non_null(t->rows);
    }
    struct fresh_row *row = &t->rows[t->n_rows++];
    *row = (struct fresh_row){.n = n, .at_us = at_us};
    row->cells = make(t->n_ids, sizeof(*row->cells));
    memcpy(row->cells, t->now, t->n_ids * sizeof(*row->cells));
}

static void put_table(struct pgparams *p, struct fresh_table *t, bool some,
                      const struct fresh_host *h, bool keyframe)
{
    if (!some) {
        pgparam_int32(p, STORED_NONE);
        pgparam_null(p);
        return;
    }
    keyframe = fresh_pack(t, h->at_us, keyframe);
    pgparam_int32(p, keyframe ? STORED_KEYFRAME : STORED_DELTA);
    pgparam_bytes(p, t->data.data, t->data.len);
    keep(t, h->n, h->at_us);
}

static const char store_sql[] =
    "WITH cursor AS (INSERT INTO poolscope_data.ingest_cursor AS c"
    " (host_id, n, first_at, last_at, tags_at, tags_n, counters_at, counters_n)"
    " SELECT $1, $2, $3, $3, CASE WHEN $5 > 0 THEN $3 END,"
    "  CASE WHEN $5 > 0 THEN $2 END, CASE WHEN $7 > 0 THEN $3 END,"
    "  CASE WHEN $7 > 0 THEN $2 END"
    " ON CONFLICT (host_id) DO UPDATE SET n = excluded.n,"
    "  last_at = excluded.last_at,"
    "  tags_at = coalesce(excluded.tags_at, c.tags_at),"
    "  tags_n = coalesce(excluded.tags_n, c.tags_n),"
    "  counters_at = coalesce(excluded.counters_at, c.counters_at),"
    "  counters_n = coalesce(excluded.counters_n, c.counters_n)) "
    "INSERT INTO poolscope_data.fresh SELECT $1, $2, $3,"
    " $3 + interval '1500 us', $2, $2, $4,"
    " '00000000-0000-0000-0000-0000000000aa', slot, $5, $7, $6, $8 "
    "FROM poolscope_data.fresh_slot WHERE present";

void fresh_store(PGconn *owner, struct fresh_host *h, int64_t at_us,
                 unsigned boot, bool tags, bool counters, bool keyframe)
{
    static const Oid types[] = {20, 20, 1184, 2950, 23, 17, 23, 17};
    const uint8_t boot_id[UUID_BYTES] = {0xb0, [15] = (uint8_t)boot};
    struct pgparams p = {.n = 0};
    h->n++;
    h->at_us = at_us;
    pgparam_int64(&p, h->host_id);
    pgparam_int64(&p, h->n);
    pgparam_time(&p, at_us);
    pgparam_uuid(&p, boot_id);
    put_table(&p, &h->tags, tags, h, keyframe);
    put_table(&p, &h->counters, counters, h, keyframe);

    const char *values[PGLINK_PARAMS_MAX];
    int lengths[PGLINK_PARAMS_MAX];
    int formats[PGLINK_PARAMS_MAX];
    for (unsigned i = 0; i < p.n; i++) {
        values[i] = p.param[i].data;
        lengths[i] = p.param[i].len;
        formats[i] = 1;
    }
    PGresult *res = PQexecParams(owner, store_sql, (int)p.n, types, values,
                                 lengths, formats, 0);
    if (PQresultStatus(res) != PGRES_COMMAND_OK) {
        fail_msg("%s", PQerrorMessage(owner));
    }
    PQclear(res);
}
