/* What stands in the grids of a session into a batch for the store.
 *
 * Most batches are stored as they came: the wire's bytes, with the names that
 * are new. The store's chain of rows has its own keyframes, though, more often
 * than the wire's: those are stated from the grid. */
#include <stdlib.h>
#include <string.h>

#include "collector/decode.h"
#include "collector/decode_lists.h"
#include "collector/sanitise.h"
#include "common/clock.h"

#define TIME_MAX_US ((int64_t)1 << 57)

/* ---- tables ---- */

/* Number of the settle span that has @at_us. */
static int64_t span_of(int64_t at_us, int64_t span_us)
{
    int64_t since_us = at_us - PSC_YEAR_2000_US;
    return since_us / span_us - (since_us % span_us < 0 ? 1 : 0);
}

static bool wants_keyframe(const struct decode_chain *c,
                           const struct columns *in, int64_t at_us,
                           int64_t span)
{
    bool came_before = in == NULL; /* its bytes are gone with its part */
    return c->kind == STORED_KEYFRAME || c->restate || came_before ||
           c->n_rows == 0 || c->n_rows >= DECODE_KEYFRAME_ROWS ||
           at_us - c->keyframe_us >= DECODE_KEYFRAME_US || span != c->span;
}

/* The whole grid as numbers of a keyframe, in scratch. */
static int state_anew(const struct grid *g, struct decode_shared *s,
                      struct grid_part *part)
{
    psc_buf_reset(&s->gaps);
    psc_buf_reset(&s->values);
    grid_pack(g, g->columns == 1 ? sanitise_counter_row : sanitise_tag_row,
              &s->gaps, &s->values);
    *part = (struct grid_part){
        .gaps = psc_buf_bytes(&s->gaps),
        .values = psc_buf_bytes(&s->values),
    };
    int rc = psc_buf_error(&s->gaps);
    return rc == PSC_OK ? psc_buf_error(&s->values) : rc;
}

/* Pack one table of the sample. @in: its delta, if it is in the last part. */
static int pack_table(struct decode_chain *c, struct decode_shared *s,
                      const struct columns *in, int64_t at_us,
                      struct psc_buf *packed, struct batch_table *out)
{
    psc_buf_reset(packed);
    if (c->kind == STORED_NONE) {
        return PSC_OK;
    }
    int64_t span = span_of(at_us, s->settle_span_us);
    struct grid_part part;
    if (wants_keyframe(c, in, at_us, span)) {
        int rc = state_anew(&c->grid, s, &part);
        if (rc != PSC_OK) {
            return rc;
        }
        out->kind = STORED_KEYFRAME;
        out->n_names = c->grid.n;
        c->keyframe_us = at_us;
        c->n_rows = 0;
    } else {
        part = (struct grid_part){in->gone, in->gaps, in->values};
        out->kind = STORED_DELTA;
        out->n_names = c->n_new;
    }
    c->span = span;
    c->n_rows++;
    stored_numbers(packed, &part);
    out->n_changed = c->n_changed;
    out->packed_bytes = (uint32_t)packed->len;
    return psc_buf_error(packed);
}

/* ---- the batch's memory ---- */

static size_t table_bytes(const struct batch_table *t)
{
    return t->n_names * (sizeof(*t->local) + sizeof(*t->name_flags)) +
           t->packed_bytes;
}

static size_t text_bytes(const struct psc_buf *b)
{
    return b->len > 0 ? b->len + 1 : 0;
}

/* Hand out pieces of the batch's memory, the most aligned ones first. */
static void *carve(uint8_t **at, size_t bytes)
{
    void *piece = *at;
    *at += bytes;
    return piece;
}

static void *carve_copy(uint8_t **at, const struct psc_buf *from)
{
    void *piece = carve(at, from->len);
    if (from->len > 0) {
        memcpy(piece, from->data, from->len);
    }
    return piece;
}

static const char *carve_text(uint8_t **at, const struct psc_buf *from)
{
    if (from->len == 0) {
        return NULL;
    }
    char *text = carve_copy(at, from);
    *(uint8_t *)carve(at, 1) = '\0';
    return text;
}

static void carve_locals(uint8_t **at, const struct grid *g,
                         struct batch_table *t)
{
    uint32_t first = g->n - t->n_names;
    t->local = carve(at, t->n_names * sizeof(*t->local));
    for (uint32_t i = 0; i < t->n_names; i++) {
        t->local[i] = g->entries[first + i].ref;
    }
}

static void carve_rest(uint8_t **at, const struct grid *g,
                       const struct psc_buf *packed, struct batch_table *t)
{
    uint32_t first = g->n - t->n_names;
    t->name_flags = carve(at, t->n_names);
    for (uint32_t i = 0; i < t->n_names; i++) {
        t->name_flags[i] = g->entries[first + i].flags;
    }
    t->packed = carve_copy(at, packed);
}

/* A batch like @head, with room of its own. */
static struct batch *allocate(const struct batch *head, const struct decode *d,
                              const struct decode_shared *s)
{
    size_t bytes = sizeof(struct batch) + table_bytes(&head->tags) +
                   table_bytes(&head->counters) + text_bytes(&s->drivers) +
                   text_bytes(&s->events) + text_bytes(&s->sources) +
                   text_bytes(&s->aliases);
    struct batch *b = malloc(bytes);
    if (b == NULL) {
        return NULL;
    }
    *b = *head;
    b->bytes = bytes;
    uint8_t *at = (uint8_t *)(b + 1);
    carve_locals(&at, &d->tags.grid, &b->tags);
    carve_locals(&at, &d->counters.grid, &b->counters);
    carve_rest(&at, &d->tags.grid, &s->tags_packed, &b->tags);
    carve_rest(&at, &d->counters.grid, &s->counters_packed, &b->counters);
    b->drivers = carve_text(&at, &s->drivers);
    b->events = carve_text(&at, &s->events);
    b->sources = carve_text(&at, &s->sources);
    b->aliases = carve_text(&at, &s->aliases);
    return b;
}

/* ---- where and when ---- */

/* Any time of a peer, cut so that sums of a few cannot overflow. */
static int64_t clamp_time(int64_t us)
{
    return us > TIME_MAX_US    ? TIME_MAX_US
           : us < -TIME_MAX_US ? -TIME_MAX_US
                               : us;
}

static void set_times(struct batch *b, const struct decode_facts *f,
                      const struct wire_batch *in)
{
    bool present = memcmp(in->boot_id, f->boot_id, sizeof(in->boot_id)) == 0;
    b->wall_us = clamp_time(in->wall_us);
    b->at_us = present
                   ? clock_offset_at(f->clock, f->now_us, in->boottime_us)
                   : clock_offset_earlier_at(f->clock, f->now_us, in->wall_us);
    /* An earlier boot's start is known as well as its clocks are. */
    int64_t uptime_us = clamp_time(in->boottime_us);
    b->boot_at_us = present ? f->clock->boot_us : b->at_us - uptime_us;
}

static void set_head(struct batch *b, const struct decode *d,
                     const struct decode_facts *facts,
                     const struct wire_batch *in)
{
    *b = (struct batch){
        .host_id = facts->host_id,
        .session = facts->session,
        .prev_seq = facts->prev_seq,
        .first_seq = d->first_seq,
        .seq = in->seq,
        .missed_ticks = in->missed_ticks,
    };
    memcpy(b->stream, facts->stream, sizeof(b->stream));
    memcpy(b->boot_id, in->boot_id, sizeof(b->boot_id));
    set_times(b, facts, in);
}

int decode_take(struct decode *d, struct decode_shared *s,
                const struct decode_facts *facts, const struct wire_batch *in,
                struct batch **out)
{
    struct batch head;
    set_head(&head, d, facts, in);
    int rc = pack_table(&d->tags, s, in->has_tags ? &in->tags : NULL,
                        head.at_us, &s->tags_packed, &head.tags);
    if (rc == PSC_OK) {
        rc =
            pack_table(&d->counters, s, in->has_counters ? &in->counters : NULL,
                       head.at_us, &s->counters_packed, &head.counters);
    }
    if (rc == PSC_OK) {
        decode_lists(s, in, head.at_us - head.wall_us, facts, d->budget);
        *out = allocate(&head, d, s);
        rc = *out != NULL ? PSC_OK : PSC_NOMEM;
    }
    if (rc != PSC_OK) {
        decode_reset(d);
        return rc;
    }
    if (d->budget != NULL &&
        !budget_take_boot(d->budget, head.boot_id, facts->mono_us)) {
        s->n_over_budget++; /* as if it were of the boot before */
        memcpy((*out)->boot_id, d->budget->boot_id, sizeof(head.boot_id));
    }
    return PSC_OK;
}
