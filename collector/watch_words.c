/* Findings into sentences and JSON, and back. */
#include "collector/watch_words.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "proto/table.h"

enum { TEXT_BYTES = 48, MAX_NAMED = 4 };

/* "1.25 GiB" */
static const char *bytes_text(double bytes, char out[TEXT_BYTES])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned i = 0;
    double v = bytes < 0 ? -bytes : bytes;
    while (v >= 1000 && i + 1 < sizeof(units) / sizeof(units[0])) {
        v /= 1024;
        i++;
    }
    int digits = i == 0 || v >= 100 ? 0 : v >= 10 ? 1 : 2;
    (void)snprintf(out, TEXT_BYTES, "%s%.*f %s", bytes < 0 ? "-" : "", digits,
                   v, units[i]);
    return out;
}

/* "2026-03-02 14:05 UTC" */
static const char *time_text(int64_t us, char out[TEXT_BYTES])
{
    time_t s = (time_t)(us / PSC_US_PER_S);
    struct tm tm;
    if (gmtime_r(&s, &tm) == NULL ||
        strftime(out, TEXT_BYTES, "%Y-%m-%d %H:%M UTC", &tm) == 0) {
        (void)snprintf(out, TEXT_BYTES, "an unknown time");
    }
    return out;
}

static const char *span_text(int64_t us, char out[TEXT_BYTES])
{
    double s = (double)us / 1e6;
    if (s < 120) {
        (void)snprintf(out, TEXT_BYTES, "%.0f seconds", s);
    } else if (s < 5400) {
        (void)snprintf(out, TEXT_BYTES, "%.0f minutes", s / 60);
    } else if (s < 2 * 86400) {
        (void)snprintf(out, TEXT_BYTES, "%.0f hours", s / 3600);
    } else {
        (void)snprintf(out, TEXT_BYTES, "%.0f days", s / 86400);
    }
    return out;
}

static void put_growth(const struct detect_finding *f, const char *tag,
                       struct psc_buf *out)
{
    char rate[TEXT_BYTES], day[TEXT_BYTES], now[TEXT_BYTES];
    char onset[TEXT_BYTES], then[TEXT_BYTES];
    bool over = f->change == DETECT_RESOLVED;
    bool grows = f->growing && !over;
    psc_buf_printf(out, "%s %s by %s a day (%s/s) %s %s", tag,
                   grows ? "grows" : "grew", bytes_text(f->bytes_per_day, day),
                   bytes_text(f->bytes_per_day / 86400, rate),
                   grows ? "since" : "from", time_text(f->onset_us, onset));
    if (!grows) {
        psc_buf_printf(out, " to %s", time_text(f->grew_us, then));
    }
    psc_buf_printf(out, "%s holds %s",
                   over ? "; that is over, and it" : ", and",
                   bytes_text((double)f->bytes, now));
    if (f->onset_bytes >= 0) {
        psc_buf_printf(out, " (%s at its onset)",
                       bytes_text((double)f->onset_bytes, then));
    }
    psc_buf_printf(out, ".");
}

/* The tags of [@from, @to), or the first few of them. */
static void put_names(const struct watch_names *names, uint32_t from,
                      uint32_t to, struct psc_buf *out)
{
    uint32_t end = to - from > MAX_NAMED ? from + MAX_NAMED : to;
    for (uint32_t i = from; i < end; i++) {
        psc_buf_printf(out, "%s%s", i > from ? ", " : "", names->tag[i]);
    }
    if (to > end) {
        psc_buf_printf(out, " and %u more", to - end);
    }
}

static void put_company(const struct detect_finding *f,
                        const struct watch_names *names, struct psc_buf *out)
{
    char day[TEXT_BYTES];
    uint32_t firm = f->n_tags - f->n_reclaimable;
    const char *grow = f->change == DETECT_RESOLVED ? "grew" : "grow";
    if (f->n_tags <= 1) {
        return;
    }
    psc_buf_printf(out, " In step with it: ");
    if (firm > 1) {
        put_names(names, 1, firm, out);
    }
    if (f->n_reclaimable > 0) {
        psc_buf_printf(out, "%swhat the kernel can reclaim (",
                       firm > 1 ? ", and " : "");
        put_names(names, firm, f->n_tags, out);
        psc_buf_printf(out, ")");
    }
    psc_buf_printf(out, ". Together those in pool %s %s %s a day",
                   pool_name((enum pool)f->group_pool), grow,
                   bytes_text(f->group_bytes_per_day, day));
    psc_buf_printf(out, "%s.",
                   f->n_reclaimable > 0
                       ? "; what can be reclaimed counts for two thirds of "
                         "the rest at most"
                       : "");
}

static void put_forecast(const struct detect_finding *f, struct psc_buf *out)
{
    char room[TEXT_BYTES], at[TEXT_BYTES], from[TEXT_BYTES], to[TEXT_BYTES];
    const char *why = f->n_reclaimable > 0
                          ? ", as all or none of what can be reclaimed counts"
                          : "";
    if (f->exhaustion_us == 0 || f->change == DETECT_RESOLVED) {
        return;
    }
    psc_buf_printf(out, " At this rate the %s that are left run out at %s",
                   bytes_text((double)f->room_bytes, room),
                   time_text(f->exhaustion_us, at));
    if (f->earliest_us != 0 && f->latest_us != 0) {
        psc_buf_printf(out, " (between %s and %s%s)",
                       time_text(f->earliest_us, from),
                       time_text(f->latest_us, to), why);
    } else if (f->earliest_us != 0) {
        psc_buf_printf(out, " (not before %s, with no later bound%s)",
                       time_text(f->earliest_us, from), why);
    }
    psc_buf_printf(out, ".");
}

void watch_summary(const struct detect_finding *f,
                   const struct watch_names *names, struct psc_buf *out)
{
    char window[TEXT_BYTES];
    put_growth(f, names->tag[0], out);
    put_company(f, names, out);
    put_forecast(f, out);
    psc_buf_printf(out,
                   " Evidence: when it was found, its floor had risen over %u "
                   "windows of %s (Mann-Kendall z = %.1f).",
                   f->windows, span_text(f->window_us, window), f->z);
    psc_buf_u8(out, '\0');
}

/* ---- numbers ---- */

/* JSON knows neither infinities nor NaN. */
static json_t *real(double v)
{
    return json_real(v > -1e300 && v < 1e300 ? v : 0.0);
}

/* What people and scripts read. */
static json_t *evidence_facts(const struct detect_finding *f,
                              const struct watch_names *names)
{
    json_t *rates = json_object();
    json_t *reclaimable = json_array();
    for (uint32_t i = 0; i < f->n_tags; i++) {
        (void)json_object_set_new(rates, names->tag[i],
                                  real(f->tag_bytes_per_day[i]));
        if (i >= f->n_tags - f->n_reclaimable) {
            (void)json_array_append_new(reclaimable,
                                        json_string(names->tag[i]));
        }
    }
    return json_pack(
        "{s:s, s:i, s:I, s:o, s:I, s:I, s:o, s:o, s:s, s:o}", "method",
        f->fast ? "floor of short windows (fast path)"
                : "floor of long windows (slow path)",
        "windows", (int)f->windows, "window_us", (json_int_t)f->window_us,
        "mann_kendall_z", real(f->z), "onset_bytes", (json_int_t)f->onset_bytes,
        "room_bytes", (json_int_t)f->room_bytes, "bytes_per_day", rates,
        "group_bytes_per_day", real(f->group_bytes_per_day), "group_pool",
        pool_name((enum pool)f->group_pool), "reclaimable", reclaimable);
}

static void put_int(json_t *j, const char *name, int64_t v)
{
    (void)json_object_set_new(j, name, json_integer((json_int_t)v));
}

static void put_real(json_t *j, const char *name, double v)
{
    (void)json_object_set_new(j, name, real(v));
}

/* The finding itself, for watch_evidence_read(). */
static json_t *evidence_state(const struct detect_finding *f)
{
    json_t *j = json_object();
    json_t *ids = json_array();
    json_t *rates = json_array();
    for (uint32_t i = 0; i < f->n_tags; i++) {
        (void)json_array_append_new(ids, json_integer(f->tags[i]));
        (void)json_array_append_new(rates, real(f->tag_bytes_per_day[i]));
    }
    (void)json_object_set_new(j, "tag_ids", ids);
    (void)json_object_set_new(j, "tag_bytes_per_day", rates);
    (void)json_object_set_new(j, "fast", json_boolean(f->fast));
    (void)json_object_set_new(j, "growing", json_boolean(f->growing));
    (void)json_object_set_new(j, "information", json_boolean(f->information));
    put_int(j, "key", (int64_t)f->key);
    put_int(j, "onset_us", f->onset_us);
    put_int(j, "detected_us", f->detected_us);
    put_int(j, "updated_us", f->updated_us);
    put_int(j, "grew_us", f->grew_us);
    put_int(j, "onset_bytes", f->onset_bytes);
    put_int(j, "bytes", f->bytes);
    put_real(j, "bytes_per_day", f->bytes_per_day);
    put_real(j, "group_bytes_per_day", f->group_bytes_per_day);
    put_int(j, "room_bytes", f->room_bytes);
    put_int(j, "exhaustion_us", f->exhaustion_us);
    put_int(j, "earliest_us", f->earliest_us);
    put_int(j, "latest_us", f->latest_us);
    put_real(j, "z", f->z);
    put_real(j, "confidence", f->confidence);
    put_int(j, "windows", f->windows);
    put_int(j, "window_us", f->window_us);
    put_int(j, "group_pool", f->group_pool);
    put_int(j, "n_reclaimable", f->n_reclaimable);
    return j;
}

int watch_evidence(const struct detect_finding *f,
                   const struct watch_names *names, struct psc_buf *out)
{
    json_t *j = evidence_facts(f, names);
    /* A NULL on the way, from lack of memory, makes this fail too. */
    char *text = NULL;
    if (json_object_set_new(j, "state", evidence_state(f)) == 0) {
        text = json_dumps(j, JSON_COMPACT);
    }
    json_decref(j);
    if (text == NULL) {
        return PSC_NOMEM;
    }
    psc_buf_append(out, text, strlen(text) + 1);
    free(text);
    return psc_buf_error(out);
}

static int64_t get_int(const json_t *j, const char *name)
{
    return json_integer_value(json_object_get(j, name));
}

static double get_real(const json_t *j, const char *name)
{
    return json_number_value(json_object_get(j, name));
}

static void get_tags(const json_t *j, struct detect_finding *f)
{
    const json_t *ids = json_object_get(j, "tag_ids");
    const json_t *rates = json_object_get(j, "tag_bytes_per_day");
    size_t n = json_array_size(ids);
    f->n_tags = (uint32_t)(n < DETECT_TAGS_MAX ? n : DETECT_TAGS_MAX);
    for (uint32_t i = 0; i < f->n_tags; i++) {
        f->tags[i] = (uint32_t)json_integer_value(json_array_get(ids, i));
        f->tag_bytes_per_day[i] = json_number_value(json_array_get(rates, i));
    }
}

bool watch_evidence_read(const char *json, struct detect_finding *f)
{
    json_t *evidence = json_loads(json, 0, NULL);
    const json_t *j = json_object_get(evidence, "state");
    *f = (struct detect_finding){.change = DETECT_OPENED};
    if (json_is_object(j)) {
        get_tags(j, f);
        f->fast = json_is_true(json_object_get(j, "fast"));
        f->growing = json_is_true(json_object_get(j, "growing"));
        f->information = json_is_true(json_object_get(j, "information"));
        f->key = (uint64_t)get_int(j, "key");
        f->onset_us = get_int(j, "onset_us");
        f->detected_us = get_int(j, "detected_us");
        f->updated_us = get_int(j, "updated_us");
        f->grew_us = get_int(j, "grew_us");
        f->onset_bytes = get_int(j, "onset_bytes");
        f->bytes = get_int(j, "bytes");
        f->bytes_per_day = get_real(j, "bytes_per_day");
        f->group_bytes_per_day = get_real(j, "group_bytes_per_day");
        f->room_bytes = get_int(j, "room_bytes");
        f->exhaustion_us = get_int(j, "exhaustion_us");
        f->earliest_us = get_int(j, "earliest_us");
        f->latest_us = get_int(j, "latest_us");
        f->z = get_real(j, "z");
        f->confidence = get_real(j, "confidence");
        f->windows = (uint32_t)get_int(j, "windows");
        f->window_us = get_int(j, "window_us");
        f->group_pool = (int)get_int(j, "group_pool");
        int64_t last = get_int(j, "n_reclaimable");
        f->n_reclaimable = last > 0 && last < f->n_tags ? (uint32_t)last : 0;
    }
    json_decref(evidence);
    return f->n_tags > 0 && f->onset_us > 0 && f->detected_us > 0;
}
