/* The chunk writer's first half: takes note of what each snapshot brings.
 *
 * A put is a look into a hash table, a comparison with the entry's newest
 * record and, where something changed, a record at the end of one log of
 * words. A snapshot's second record of an entry takes the place of its first.
 *
 * Failures (no memory, a limit) come before anything is changed. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sql/codec/chunk_pack.h"

enum { FIRST_CAPACITY = 64, HASH_FACTOR = 2 };

int chunk_grow(void *array, uint32_t *cap, uint32_t need, size_t size)
{
    if (need <= *cap) {
        return PSC_OK;
    }
    uint32_t more = *cap > 0 ? *cap : FIRST_CAPACITY;
    while (more < need) {
        more *= 2;
    }
    void *old;
    memcpy(&old, array, sizeof(old));
    void *grown = realloc(old, more * size);
    if (grown == NULL) {
        return PSC_NOMEM;
    }
    memcpy(array, &grown, sizeof(grown));
    *cap = more;
    return PSC_OK;
}

void chunk_writer_init(struct chunk_writer *w, uint32_t columns,
                       const struct chunk_digest *digest)
{
    assert(columns == 1 || columns == TABLE_COLUMNS_MAX);
    *w = (struct chunk_writer){.columns = columns, .digest = digest};
    psc_buf_init(&w->head, CHUNK_SECTION_MAX_BYTES);
    psc_buf_init(&w->levels, CHUNK_SECTION_MAX_BYTES);
    psc_buf_init(&w->data, CHUNK_SECTION_MAX_BYTES);
}

void chunk_writer_fini(struct chunk_writer *w)
{
    free(w->moments);
    free(w->boots);
    free(w->series);
    free(w->slots);
    free(w->log);
    chunk_packer_free(w->packer);
    psc_buf_fini(&w->head);
    psc_buf_fini(&w->levels);
    psc_buf_fini(&w->data);
    chunk_writer_init(w, w->columns, w->digest);
}

void chunk_writer_reset(struct chunk_writer *w)
{
    w->n_moments = 0;
    w->n_boots = 0;
    w->n_series = 0;
    w->log_len = 0;
    w->keyframe = false;
    if (w->n_slots > 0) {
        memset(w->slots, 0, w->n_slots * sizeof(*w->slots));
    }
}

static uint32_t present_snapshot(const struct chunk_writer *w)
{
    assert(w->n_moments > 0);
    return w->n_moments - 1;
}

/* Make room in the log, up to @max. Returns 0, PSC_NOMEM or PSC_LIMIT. */
static int reserve_words(struct chunk_writer *w, size_t more, size_t max)
{
    size_t need = w->log_len + more;

    if (need > max) {
        return PSC_LIMIT;
    }
    if (need <= w->log_cap) {
        return PSC_OK;
    }
    uint32_t cap = (uint32_t)w->log_cap;
    int rc = chunk_grow(&w->log, &cap, (uint32_t)need, sizeof(*w->log));
    w->log_cap = cap;
    return rc;
}

/* Add the head of a record of @n_values. Room for all has been made. */
static void add_record(struct chunk_writer *w, struct chunk_series *s,
                       bool present, unsigned n_values)
{
    struct record r = {.series = (uint32_t)(s - w->series),
                       .snapshot = present_snapshot(w),
                       .n_values = (uint8_t)n_values,
                       .present = present};
    s->n_records++;
    if (s->last > 0) {
        struct record last = record_of(w->log[s->last - 1]);
        if (last.snapshot == r.snapshot) {
            last.replaced = true;
            w->log[s->last - 1] = record_word(last);
            s->n_records--;
        }
    }
    w->log[w->log_len++] = record_word(r);
    s->last = (uint32_t)w->log_len;
    s->present = present;
}

int chunk_sweep(struct chunk_writer *w)
{
    if (!w->keyframe) {
        return PSC_OK;
    }
    uint32_t now = present_snapshot(w);
    uint32_t n_gone = 0;

    for (uint32_t i = 0; i < w->n_series; i++) {
        n_gone += w->series[i].present && w->series[i].seen != now;
    }
    /* What was put is never too much to be ended. */
    int rc = reserve_words(w, n_gone, CHUNK_LOG_MAX_WORDS + CHUNK_ENTRIES_MAX);
    if (rc != PSC_OK) {
        return rc;
    }
    for (uint32_t i = 0; i < w->n_series; i++) {
        struct chunk_series *s = &w->series[i];
        if (s->present && s->seen != now) {
            add_record(w, s, false, 0);
        }
    }
    w->keyframe = false;
    return PSC_OK;
}

/* The index of @boot, made if it is new. Mostly it is the last one. */
static int find_boot(struct chunk_writer *w, const uint8_t *boot,
                     uint32_t *index)
{
    for (uint32_t i = w->n_boots; i-- > 0;) {
        if (memcmp(w->boots[i], boot, CHUNK_BOOT_BYTES) == 0) {
            *index = i;
            return PSC_OK;
        }
    }
    int rc =
        chunk_grow(&w->boots, &w->cap_boots, w->n_boots + 1, sizeof(*w->boots));
    if (rc == PSC_OK) {
        *index = w->n_boots++;
        memcpy(w->boots[*index], boot, CHUNK_BOOT_BYTES);
    }
    return rc;
}

static bool moment_fits(const struct chunk_writer *w, int64_t n, int64_t at_us,
                        int64_t wall_us)
{
    uint64_t ahead = (uint64_t)wall_us - (uint64_t)at_us;

    return w->n_moments < CHUNK_SNAPSHOTS_MAX && n >= 0 &&
           n < CHUNK_TIME_LIMIT && chunk_time_in_range((uint64_t)at_us) &&
           chunk_time_in_range(ahead) &&
           (w->n_moments == 0 || n > w->moments[w->n_moments - 1].n);
}

int chunk_writer_snapshot(struct chunk_writer *w, int64_t n, int64_t at_us,
                          int64_t wall_us, const uint8_t boot[CHUNK_BOOT_BYTES])
{
    if (!moment_fits(w, n, at_us, wall_us)) {
        return PSC_LIMIT;
    }
    int rc = chunk_grow(&w->moments, &w->cap_moments, w->n_moments + 1,
                        sizeof(*w->moments));
    if (rc == PSC_OK) {
        rc = chunk_sweep(w);
    }
    uint32_t index = 0;
    if (rc == PSC_OK) {
        rc = find_boot(w, boot, &index);
    }
    if (rc == PSC_OK) {
        w->moments[w->n_moments++] = (struct chunk_moment){
            .n = n, .at_us = at_us, .wall_us = wall_us, .boot = index};
        w->log_snapshot = w->log_len;
    }
    return rc;
}

/* Which record was an entry's newest before is not kept: the log is read again
 * from its start. */
void chunk_writer_drop(struct chunk_writer *w)
{
    assert(w->n_moments > 0);
    w->keyframe = false;
    w->log_len = w->log_snapshot;
    if (--w->n_moments == 0) {
        chunk_writer_reset(w);
        return;
    }
    for (uint32_t i = 0; i < w->n_series; i++) {
        struct chunk_series *s = &w->series[i];
        s->last = 0;
        s->n_records = 0;
        s->present = false;
        s->seen = UINT16_MAX; /* not in the next one */
    }
    for (size_t at = 0; at < w->log_len;) {
        struct record r = record_of(w->log[at]);
        struct chunk_series *s = &w->series[r.series];
        s->last = (uint32_t)at + 1;
        s->n_records += !r.replaced;
        s->present = r.present;
        at += 1 + r.n_values;
    }
}

void chunk_writer_keyframe(struct chunk_writer *w)
{
    assert(w->n_moments > 0);
    w->keyframe = true;
}

/* --- entries --- */

static uint32_t slot_of(const struct chunk_writer *w, uint32_t id)
{
    uint32_t i = (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 32);

    for (i &= w->n_slots - 1; w->slots[i] != 0;
         i = (i + 1) & (w->n_slots - 1)) {
        if (w->series[w->slots[i] - 1].id == id) {
            break;
        }
    }
    return i;
}

/* Room for one more id in the hash table. */
static int grow_slots(struct chunk_writer *w)
{
    uint64_t need = ((uint64_t)w->n_series + 1) * HASH_FACTOR;
    if (need <= w->n_slots) {
        return PSC_OK;
    }
    uint32_t n = w->n_slots > 0 ? w->n_slots * 2 : FIRST_CAPACITY * 2;
    uint32_t *slots = calloc(n, sizeof(*slots));
    if (slots == NULL) {
        return PSC_NOMEM;
    }
    free(w->slots);
    w->slots = slots;
    w->n_slots = n;
    for (uint32_t i = w->n_series; i-- > 0;) {
        /* The first of an id is the one its chain begins with. */
        uint32_t at = slot_of(w, w->series[i].id);
        w->slots[at] = i + 1;
    }
    return PSC_OK;
}

/* Add an entry after @before (NULL: the id is new). */
static int add_series(struct chunk_writer *w, uint32_t id, uint8_t flags,
                      uint32_t before, struct chunk_series **out)
{
    if (w->n_series == CHUNK_ENTRIES_MAX) {
        return PSC_LIMIT;
    }
    int rc = chunk_grow(&w->series, &w->cap_series, w->n_series + 1,
                        sizeof(*w->series));
    if (rc == PSC_OK) {
        rc = grow_slots(w);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    uint32_t index = w->n_series++;
    w->series[index] = (struct chunk_series){.id = id, .flags = flags};
    if (before != 0) {
        w->series[before - 1].other = index + 1;
    } else {
        w->slots[slot_of(w, id)] = index + 1;
    }
    *out = &w->series[index];
    return PSC_OK;
}

/* The first entry of @id, + 1; 0 if there is none. */
static uint32_t first_series(const struct chunk_writer *w, uint32_t id)
{
    return w->n_slots > 0 ? w->slots[slot_of(w, id)] : 0;
}

/* The entry of @id with @flags, made if it is new. @first: of this id. */
static int find_series(struct chunk_writer *w, uint32_t id, uint8_t flags,
                       uint32_t first, struct chunk_series **out)
{
    uint32_t before = 0;

    for (uint32_t n = 0, at = first; at != 0; n++) {
        struct chunk_series *s = &w->series[at - 1];
        if (s->flags == flags) {
            *out = s;
            return PSC_OK;
        }
        if (n + 1 == CHUNK_VARIANTS_MAX) {
            return PSC_LIMIT;
        }
        before = at;
        at = s->other;
    }
    return add_series(w, id, flags, before, out);
}

/* Entries of @id but @keep (may be NULL) are gone. Room has been made. */
static void end_others(struct chunk_writer *w, uint32_t first,
                       const struct chunk_series *keep)
{
    assert(first == 0 || w->series != NULL);
    for (uint32_t at = first; at != 0; at = w->series[at - 1].other) {
        struct chunk_series *s = &w->series[at - 1];
        if (s != keep && s->present) {
            add_record(w, s, false, 0);
        }
    }
}

/* The stored ones of @values side by side. Returns their number, or SLOTS + 1
 * if one is out of range. */
static unsigned take_values(const struct chunk_writer *w, uint8_t flags,
                            const int64_t *values, uint64_t out[SLOTS])
{
    const bool real = chunk_is_real(flags);
    if (w->columns == 1) {
        out[0] = (uint64_t)values[0];
        return real || chunk_in_range(out[0]) ? 1 : SLOTS + 1;
    }
    const bool derives = chunk_derives(w->columns, flags);
    bool good = !derives || chunk_in_range((uint64_t)values[COL_FREES]);
    unsigned n = 0;
    for (unsigned left = chunk_slots(w->columns, flags); left != 0;
         left &= left - 1) {
        unsigned slot = (unsigned)__builtin_ctz(left);
        out[n] = (uint64_t)values[slot];
        if (slot == SLOT_FREES && derives) {
            out[n] = (uint64_t)values[COL_ALLOCS] - out[n];
        }
        good &= chunk_in_range(out[n]);
        n++;
    }
    return real || good ? n : SLOTS + 1;
}

/* Whether these are the values of the newest record, which has as many. */
static bool is_newest(const struct chunk_writer *w,
                      const struct chunk_series *s, const uint64_t *values,
                      unsigned n)
{
    uint64_t differ = 0;

    for (unsigned i = 0; i < n; i++) {
        differ |= w->log[s->last + i] ^ values[i];
    }
    return differ == 0;
}

int chunk_writer_put(struct chunk_writer *w, uint32_t id, uint8_t flags,
                     const int64_t *values)
{
    uint64_t taken[SLOTS];
    unsigned n = take_values(w, flags, values, taken);
    if (id == 0 || id > INT32_MAX || n > SLOTS) {
        return PSC_LIMIT;
    }
    int rc = reserve_words(w, 1 + n + CHUNK_VARIANTS_MAX, CHUNK_LOG_MAX_WORDS);
    struct chunk_series *s = NULL;
    uint32_t first = first_series(w, id);
    if (rc == PSC_OK) {
        rc = find_series(w, id, flags, first, &s);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    if (first != 0 && w->series[first - 1].other != 0) {
        end_others(w, first, s);
    }
    s->seen = (uint16_t)present_snapshot(w);
    if (s->present && is_newest(w, s, taken, n)) {
        return PSC_OK;
    }
    add_record(w, s, true, n);
    for (unsigned i = 0; i < n; i++) {
        w->log[w->log_len++] = taken[i];
    }
    return PSC_OK;
}

int chunk_writer_gone(struct chunk_writer *w, uint32_t id)
{
    int rc = reserve_words(w, CHUNK_VARIANTS_MAX, CHUNK_LOG_MAX_WORDS);

    if (rc == PSC_OK) {
        end_others(w, first_series(w, id), NULL);
    }
    return rc;
}
