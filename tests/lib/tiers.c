/* Rows and chunks made by the agent's encoder and the settler's chunk writer.
 */
#include "tests/lib/tiers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/stored.h"
#include "tests/lib/database.h"

enum { ENTRIES_MAX = 1 << 15, ROW_MAX_BYTES = 1 << 22, SQL_BYTES = 1024 };

void tier_table_init(struct tier_table *t, uint32_t columns)
{
    table_init(&t->table, columns, ENTRIES_MAX, ENTRIES_MAX * sizeof(int32_t));
    table_writer_init(&t->packed, ROW_MAX_BYTES);
    psc_buf_init(&t->row, ROW_MAX_BYTES);
    chunk_writer_init(&t->chunk, columns, &chunk_openssl);
}

void tier_table_fini(struct tier_table *t)
{
    table_fini(&t->table);
    table_writer_fini(&t->packed);
    psc_buf_fini(&t->row);
    chunk_writer_fini(&t->chunk);
}

void tier_begin(struct tier_table *t)
{
    table_begin(&t->table);
}

void tier_put(struct tier_table *t, int32_t id, uint8_t flags,
              const int64_t *values)
{
    assert_int_equal(table_put(&t->table, 1, &id, sizeof(id), flags, values),
                     PSC_OK);
}

static int32_t id_of(const struct tier_table *t, uint32_t entry)
{
    int32_t id;
    memcpy(&id, psc_map_key(&t->table.names, entry).data, sizeof(id));
    return id;
}

struct psc_bytes tier_row(struct tier_table *t, bool *keyframe)
{
    struct columns packed;
    uint32_t next = 0;
    uint32_t known = t->table.n_encoded;
    int rc = table_encode(&t->table, *keyframe, 1, ROW_MAX_BYTES, &next,
                          &t->packed, &packed);
    if (rc == PSC_NEED_KEYFRAME) {
        *keyframe = true;
        rc = table_encode(&t->table, true, 0, ROW_MAX_BYTES, &next, &t->packed,
                          &packed);
    }
    assert_int_equal(rc, PSC_OK);
    assert_int_equal(next, 0);
    known = *keyframe ? 0 : known;
    psc_buf_reset(&t->row);
    stored_begin(&t->row, t->table.n_encoded - known);
    for (uint32_t i = known; i < t->table.n_encoded; i++) {
        stored_name(&t->row, t->table.entries[i].flags, (uint32_t)id_of(t, i));
    }
    const struct grid_part part = {
        .gone = packed.gone,
        .gaps = packed.gaps,
        .values = packed.values,
    };
    stored_numbers(&t->row, &part);
    assert_int_equal(psc_buf_error(&t->row), PSC_OK);
    return psc_buf_bytes(&t->row);
}

#define TIME_SQL "'epoch'::timestamptz + %lld * interval '1 us'"

void tier_store(PGconn *owner, const struct tier_sample *s)
{
    char sql[SQL_BYTES];
    const char *values[] = {
        s->tags_kind > 0 ? (const char *)s->tags.data : NULL,
        s->counters_kind > 0 ? (const char *)s->counters.data : NULL};
    const int lengths[] = {(int)s->tags.len, (int)s->counters.len};
    const int formats[] = {1, 1};
    (void)snprintf(
        sql, sizeof(sql),
        "WITH x AS (INSERT INTO poolscope_data.fresh (host_id, n, at, wall_at,"
        " first_seq, seq, boot_id, stream, slot, tags_kind, counters_kind,"
        " tags, counters) VALUES (%lld, %lld, " TIME_SQL ", " TIME_SQL
        ", %lld, %lld, '00000000-0000-0000-0000-0000000000b0',"
        " '00000000-0000-0000-0000-0000000000aa', %d, %d, %d, $1, $2)"
        " RETURNING *) UPDATE poolscope_data.ingest_cursor c SET n = x.n,"
        " tags_n = CASE WHEN x.tags_kind > 0 THEN x.n ELSE c.tags_n END,"
        " tags_at = CASE WHEN x.tags_kind > 0 THEN x.at ELSE c.tags_at END,"
        " tags_keyframe_n = CASE WHEN x.tags_kind = 2 THEN x.n"
        "  ELSE c.tags_keyframe_n END,"
        " counters_n = CASE WHEN x.counters_kind > 0 THEN x.n"
        "  ELSE c.counters_n END,"
        " counters_at = CASE WHEN x.counters_kind > 0 THEN x.at"
        "  ELSE c.counters_at END,"
        " counters_keyframe_n = CASE WHEN x.counters_kind = 2 THEN x.n"
        "  ELSE c.counters_keyframe_n END FROM x WHERE c.host_id = x.host_id",
        s->host_id, (long long)s->n, (long long)s->at_us, (long long)s->at_us,
        (long long)s->n, (long long)s->n, s->slot, s->tags_kind,
        s->counters_kind);
    static const Oid types[] = {17, 17}; /* bytea */
    PGresult *result =
        PQexecParams(owner, sql, 2, types, values, lengths, formats, 0);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fail_msg("%s", PQerrorMessage(owner));
    }
    assert_string_equal(PQcmdTuples(result), "1");
    PQclear(result);
}

void tier_store_chunk(PGconn *owner, struct chunk_writer *w,
                      const struct tier_chunk *c)
{
    char sql[SQL_BYTES];
    struct chunk_sections out;
    assert_int_equal(chunk_writer_finish(w, &out), PSC_OK);
    /* Without entries there are no bytes, which is not NULL. */
    const bool any = out.data.len > 0;
    const char *values[] = {(const char *)out.head.data,
                            any ? (const char *)out.levels.data : "",
                            any ? (const char *)out.data.data : ""};
    const int lengths[] = {(int)out.head.len, (int)out.levels.len,
                           (int)out.data.len};
    const int formats[] = {1, 1, 1};
    static const Oid types[] = {17, 17, 17};
    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO poolscope_data.%s VALUES (%lld, " TIME_SQL
                   ", %lld, %lld, " TIME_SQL ", " TIME_SQL ", %d, $1, $2, $3)",
                   w->columns == 1 ? "counter_chunk" : "tag_chunk", c->host_id,
                   (long long)c->span_us, (long long)c->n_from,
                   (long long)c->n_to, (long long)c->at_from_us,
                   (long long)c->at_to_us, c->snapshots);
    PGresult *result =
        PQexecParams(owner, sql, 3, types, values, lengths, formats, 0);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fail_msg("%s", PQerrorMessage(owner));
    }
    PQclear(result);
}

void tier_settled(PGconn *owner, long long host_id, int64_t tags_n,
                  int64_t counters_n)
{
    char sql[SQL_BYTES];
    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO poolscope_data.host_settle VALUES (%lld, %lld,"
                   " %lld) ON CONFLICT (host_id) DO UPDATE SET"
                   " tags_n = excluded.tags_n, counters_n ="
                   " excluded.counters_n",
                   host_id, (long long)tags_n, (long long)counters_n);
    test_sql(owner, sql);
}
