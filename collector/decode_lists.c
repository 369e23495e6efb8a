/* Record lists and labels into JSON, every text sanitised and bounded. */
#include "collector/decode_lists.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "collector/sanitise.h"
#include "common/log.h"
#include "proto/record.h"

enum {
    DRIVERS_MAX = 4096,
    EVENTS_MAX = 1024,
    SOURCES_MAX = 64,
    ALIASES_MAX = 8192,
    LABELS_MAX = 64,
    NAME_MAX_BYTES = 256,
    TEXT_MAX_BYTES = 1024,
    LONG_TEXT_MAX_BYTES = 4096,
};

/* ---- writing ---- */

/* "name": with the comma before it that all but the first need. */
static void put_name(struct psc_buf *out, const char *name)
{
    if (out->len > 0 && out->data[out->len - 1] != '{') {
        psc_buf_u8(out, ',');
    }
    psc_buf_printf(out, "\"%s\":", name);
}

static struct psc_bytes text_bytes(const char *text)
{
    return (struct psc_bytes){(const uint8_t *)text, strlen(text)};
}

static void put_text(struct psc_buf *out, const char *name,
                     struct psc_bytes text, size_t max_bytes)
{
    if (text.len > 0) {
        put_name(out, name);
        sanitise_json_string(out, text, max_bytes);
    }
}

static void put_number(struct psc_buf *out, const char *name, int64_t value)
{
    put_name(out, name);
    psc_buf_printf(out, "%" PRId64, value);
}

static void put_hex(struct psc_buf *out, const char *name,
                    struct psc_bytes bytes)
{
    if (bytes.len == 0 || bytes.len > 64) {
        return;
    }
    put_name(out, name);
    psc_buf_u8(out, '"');
    for (size_t i = 0; i < bytes.len; i++) {
        psc_buf_printf(out, "%02x", bytes.data[i]);
    }
    psc_buf_u8(out, '"');
}

static void begin_record(struct psc_buf *out)
{
    psc_buf_append(out, out->len > 1 ? ",{" : "{", out->len > 1 ? 2 : 1);
}

static void put_driver(struct psc_buf *out, const struct driver_record *r)
{
    begin_record(out);
    put_text(out, "driver", r->name, NAME_MAX_BYTES);
    put_text(out, "version", r->version, NAME_MAX_BYTES);
    put_text(out, "company", r->company, NAME_MAX_BYTES);
    put_text(out, "product", r->product, NAME_MAX_BYTES);
    put_text(out, "path", r->path, TEXT_MAX_BYTES);
    put_text(out, "srcversion", r->srcversion, NAME_MAX_BYTES);
    put_text(out, "tags", r->tags, LONG_TEXT_MAX_BYTES);
    put_hex(out, "sha256", r->sha256);
    put_number(out, "link_time_us", r->link_time_us);
    put_number(out, "loaded_at_us", r->loaded_at_us);
    put_number(out, "size_bytes",
               (int64_t)(r->size_bytes & (uint64_t)INT64_MAX));
    if (r->loaded_matches_file >= 0) {
        put_name(out, "loaded_matches_file");
        psc_buf_printf(out, "%s",
                       r->loaded_matches_file > 0 ? "true" : "false");
    }
    psc_buf_u8(out, '}');
}

/* Seconds of doubt about the clocks must not make an event later than now. */
static int64_t event_time(int64_t at_us, int64_t shift_us, int64_t now_us)
{
    int64_t us;
    if (__builtin_add_overflow(at_us, shift_us, &us) || us > now_us) {
        return now_us;
    }
    return us;
}

static void put_event(struct psc_buf *out, struct psc_buf *scratch,
                      const struct event_record *r, int64_t at_us)
{
    begin_record(out);
    put_number(out, "position", (int64_t)(r->position & (uint64_t)INT64_MAX));
    put_number(out, "at_us", at_us);
    put_text(out, "source", r->source, NAME_MAX_BYTES);
    put_text(out, "event_id", r->event_id, NAME_MAX_BYTES);
    put_text(out, "message", r->message, LONG_TEXT_MAX_BYTES);
    if (r->details.len > 0) {
        psc_buf_reset(scratch);
        sanitise_json_object(scratch, r->details);
    }
    if (r->details.len > 0 && psc_buf_error(scratch) == PSC_OK) {
        put_name(out, "details");
        sanitise_json_string(out, psc_buf_bytes(scratch), SIZE_MAX);
    }
    psc_buf_u8(out, '}');
}

static void put_source(struct psc_buf *out, const struct source_record *r)
{
    const char *state = source_state_name(r->state);
    begin_record(out);
    put_text(out, "name", r->name, NAME_MAX_BYTES);
    put_text(out, "state", text_bytes(state), NAME_MAX_BYTES);
    put_text(out, "message", r->message, TEXT_MAX_BYTES);
    psc_buf_u8(out, '}');
}

static void put_alias(struct psc_buf *out, const struct alias_record *r)
{
    const char *pool = pool_name((enum pool)r->pool);
    begin_record(out);
    put_text(out, "pool", text_bytes(pool), NAME_MAX_BYTES);
    put_text(out, "tag", r->tag, TABLE_KEY_MAX_BYTES);
    put_text(out, "names", r->names, LONG_TEXT_MAX_BYTES);
    psc_buf_u8(out, '}');
}

/* ---- lists ---- */

/* Close the array, or give it up when it did not fit or was malformed: half
 * an inventory would say that the other half is gone. */
static void end_list(struct decode_shared *s, struct psc_buf *out, bool whole)
{
    psc_buf_u8(out, ']');
    if (!whole || psc_buf_error(out) != PSC_OK) {
        s->n_cut_lists++;
        psc_buf_reset(out);
    }
}

static void begin_list(struct psc_buf *out)
{
    psc_buf_reset(out);
    psc_buf_u8(out, '[');
}

/* Whether @budget has so many left of a kind. */
static bool afford(struct decode_shared *s, struct budget *budget,
                   enum budget_kind kind, size_t n, int64_t mono_us)
{
    bool good =
        budget == NULL || budget_take(budget, kind, (uint32_t)n, mono_us);
    s->n_over_budget += good ? 0 : n;
    return good;
}

static void list_drivers(struct decode_shared *s, struct psc_bytes list,
                         struct budget *budget, int64_t mono_us)
{
    struct record_reader r;
    struct driver_record record;
    unsigned n = 0;
    record_reader_init(&r, list);
    begin_list(&s->drivers);
    while (n < DRIVERS_MAX && record_next_driver(&r, &record)) {
        if (record.name.len > 0) {
            put_driver(&s->drivers, &record);
        }
        n++;
    }
    end_list(s, &s->drivers, record_reader_ok(&r));
    if (!afford(s, budget, BUDGET_DRIVERS, n, mono_us)) {
        psc_buf_reset(&s->drivers);
    }
}

/* What a budget has dropped lately, as an event of our own. */
static void put_dropped(struct decode_shared *s, struct budget *budget,
                        const struct decode_facts *facts)
{
    uint64_t dropped = 0;
    int kind = budget_tell(budget, facts->mono_us, &dropped);
    if (kind < 0) {
        return;
    }
    char text[160];
    const char *name = budget_name((enum budget_kind)kind);
    (void)snprintf(text, sizeof(text),
                   "%" PRIu64 " %s of this host were dropped: it sends far "
                   "more than its share",
                   dropped, name);
    psc_log_warn("host %s: %s", facts->host, text);
    const struct event_record r = {
        .source = text_bytes("poolscope"),
        .event_id = text_bytes("over_budget"),
        .message = text_bytes(text),
    };
    if (s->events.len == 0) {
        begin_list(&s->events);
    } else {
        s->events.len--; /* the bracket */
    }
    put_event(&s->events, &s->text, &r, facts->now_us);
    end_list(s, &s->events, true);
}

static void list_events(struct decode_shared *s, struct psc_bytes list,
                        int64_t shift_us, const struct decode_facts *facts,
                        struct budget *budget)
{
    struct record_reader r;
    struct event_record record;
    unsigned n = 0;
    record_reader_init(&r, list);
    begin_list(&s->events);
    while (n++ < EVENTS_MAX && record_next_event(&r, &record)) {
        if (afford(s, budget, BUDGET_EVENTS, 1, facts->mono_us)) {
            put_event(&s->events, &s->text, &record,
                      event_time(record.at_us, shift_us, facts->now_us));
        }
    }
    /* Events stand for themselves: those before the bad one are kept. */
    if (!record_reader_ok(&r)) {
        s->n_cut_lists++;
    }
    end_list(s, &s->events, true);
}

static void list_sources(struct decode_shared *s, struct psc_bytes list)
{
    struct record_reader r;
    struct source_record record;
    unsigned n = 0;
    record_reader_init(&r, list);
    begin_list(&s->sources);
    while (n++ < SOURCES_MAX && record_next_source(&r, &record)) {
        put_source(&s->sources, &record);
    }
    end_list(s, &s->sources, record_reader_ok(&r));
}

static void list_aliases(struct decode_shared *s, struct psc_bytes list)
{
    struct record_reader r;
    struct alias_record record;
    unsigned n = 0;
    record_reader_init(&r, list);
    begin_list(&s->aliases);
    while (n++ < ALIASES_MAX && record_next_alias(&r, &record)) {
        put_alias(&s->aliases, &record);
    }
    end_list(s, &s->aliases, record_reader_ok(&r));
}

void decode_lists(struct decode_shared *s, const struct wire_batch *in,
                  int64_t shift_us, const struct decode_facts *facts,
                  struct budget *budget)
{
    size_t texts = in->sources.len + in->aliases.len;
    bool with_texts =
        texts == 0 || afford(s, budget, BUDGET_TEXTS, texts, facts->mono_us);
    psc_buf_reset(&s->drivers);
    psc_buf_reset(&s->events);
    psc_buf_reset(&s->sources);
    psc_buf_reset(&s->aliases);
    if (in->drivers.len > 0) {
        list_drivers(s, in->drivers, budget, facts->mono_us);
    }
    if (in->events.len > 0) {
        list_events(s, in->events, shift_us, facts, budget);
    }
    if (in->sources.len > 0 && with_texts) {
        list_sources(s, in->sources);
    }
    if (in->aliases.len > 0 && with_texts) {
        list_aliases(s, in->aliases);
    }
    if (budget != NULL) {
        put_dropped(s, budget, facts);
    }
}

void decode_labels(struct psc_bytes labels, struct psc_buf *out)
{
    struct psc_reader r;
    psc_reader_init(&r, labels);
    psc_buf_u8(out, '{');
    for (unsigned n = 0; n < LABELS_MAX && psc_reader_left(&r) > 0; n++) {
        struct psc_bytes name = psc_read_string(&r);
        struct psc_bytes value = psc_read_string(&r);
        if (r.failed) {
            break;
        }
        if (n > 0) {
            psc_buf_u8(out, ',');
        }
        sanitise_json_string(out, name, NAME_MAX_BYTES);
        psc_buf_u8(out, ':');
        sanitise_json_string(out, value, TEXT_MAX_BYTES);
    }
    psc_buf_u8(out, '}');
}
