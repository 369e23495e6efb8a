/* Rows of the fresh tier, one after the other. */
#include "sql/extension/stored_rows.h"

#include <catalog/pg_type.h>
#include <common/hashfn.h>
#include <miscadmin.h>
#include <stdarg.h>
#include <utils/array.h>

/* --- rows --- */

void stored_damaged(const char *fmt, ...)
{
    char text[200];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                    errmsg("stored table: %s", text)));
}

/* Never returns NULL: the server ends the query when there is no memory. */
static void *resize(void *memory, size_t bytes)
{
    if (bytes == 0) {
        pfree(memory);
        return NULL;
    }
    return memory == NULL ? palloc(bytes) : repalloc(memory, bytes);
}

void stored_rows_open(struct stored_rows *r, FunctionCallInfo fcinfo,
                      uint32_t columns)
{
    int n_kinds = 0;

    *r = (struct stored_rows){.i = 0};
    grid_init(&r->grid, columns,
              columns == 1 ? TABLE_MAX_COUNTERS : TABLE_MAX_TAGS, resize);
    grid_changes_init(&r->changes, resize);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), BYTEAOID, -1, false,
                      TYPALIGN_INT, &r->tables, &r->no_table, &r->n);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT2OID, sizeof(int16), true,
                      TYPALIGN_SHORT, &r->kinds, &r->no_kind, &n_kinds);
    if (n_kinds != r->n) {
        stored_damaged("not a kind for each row");
    }
}

/* What the row after the present one is. */
static int kind(const struct stored_rows *r)
{
    if (r->no_table[r->i] || r->no_kind[r->i]) {
        return STORED_NONE;
    }
    return DatumGetInt16(r->kinds[r->i]);
}

bool stored_rows_next(struct stored_rows *r)
{
    struct psc_error err;

    CHECK_FOR_INTERRUPTS();
    while (r->i < r->n && kind(r) == STORED_NONE) {
        r->i++;
    }
    if (r->i == r->n) {
        return false;
    }
    int how = kind(r);
    if (how != STORED_DELTA && how != STORED_KEYFRAME) {
        stored_damaged("row %d is neither keyframe nor delta", r->i + 1);
    }
    r->keyframe = how == STORED_KEYFRAME;
    r->n_before = r->keyframe ? 0 : r->grid.n;
    const bytea *b = DatumGetByteaPP(r->tables[r->i++]);
    const struct psc_bytes table = {(const uint8_t *)VARDATA_ANY(b),
                                    VARSIZE_ANY_EXHDR(b)};
    int rc = stored_apply(&r->grid, table, r->keyframe, &r->changes, &err);
    if (rc != PSC_OK) {
        ereport(ERROR,
                (errcode(rc == PSC_UNSUPPORTED ? ERRCODE_FEATURE_NOT_SUPPORTED
                                               : ERRCODE_DATA_CORRUPTED),
                 errmsg("%s", err.msg), errdetail("Row %d.", r->i)));
    }
    return true;
}

/* --- ids --- */

struct id_slot {
    uint32_t id;
    uint32_t slot;
    uint32_t dictionary; /* the last one that had it */
    char status;         /* the hash's */
};

#define SH_PREFIX            ids
#define SH_ELEMENT_TYPE      struct id_slot
#define SH_KEY_TYPE          uint32_t
#define SH_KEY               id
#define SH_HASH_KEY(tb, key) murmurhash32(key)
#define SH_EQUAL(tb, a, b)   ((a) == (b))
#define SH_SCOPE             static inline
#define SH_DECLARE
#define SH_DEFINE
#include <lib/simplehash.h>

void stored_ids_open(struct stored_ids *ids)
{
    enum { USUAL = 512 };

    *ids = (struct stored_ids){
        .hash = ids_create(CurrentMemoryContext, USUAL, NULL)};
}

static uint32_t slot_of(struct stored_ids *ids, uint32_t id)
{
    bool known;

    if (id == 0) {
        return NO_SLOT;
    }
    struct id_slot *s = ids_insert(ids->hash, id, &known);
    if (!known) {
        s->slot = ids->n++;
    } else if (s->dictionary == ids->dictionary) {
        stored_damaged("id %u came twice", (unsigned)id);
    }
    s->dictionary = ids->dictionary;
    return s->slot;
}

void stored_ids_update(struct stored_ids *ids, const struct stored_rows *r)
{
    ids->dictionary += r->keyframe ? 1 : 0;
    if (ids->cap < r->grid.cap) {
        ids->cap = r->grid.cap;
        ids->of = resize(ids->of, ids->cap * sizeof(*ids->of));
    }
    for (uint32_t i = r->n_before; i < r->grid.n; i++) {
        ids->of[i] = slot_of(ids, r->grid.entries[i].ref);
    }
}
