/* Findings into sentences and JSON, and back. */
#include "collector/watch_words.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"

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
    if (s < 5400) {
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
    psc_buf_printf(
        out, "%s %s by %s a day (%s/s) since %s, and holds %s", tag,
        f->growing ? "grows" : "grew", bytes_text(f->bytes_per_day, day),
        bytes_text(f->bytes_per_day / 86400, rate),
        time_text(f->onset_us, onset), bytes_text((double)f->bytes, now));
    if (f->onset_bytes >= 0) {
        psc_buf_printf(out, " (%s at its onset)",
                       bytes_text((double)f->onset_bytes, then));
    }
    psc_buf_printf(out, ".");
}

static void put_company(const struct detect_finding *f,
                        const struct watch_names *names, struct psc_buf *out)
{
    char day[TEXT_BYTES];
    uint32_t n = f->n_tags < MAX_NAMED ? f->n_tags : MAX_NAMED;
    if (f->n_tags <= 1) {
        return;
    }
    psc_buf_printf(out, " In step with it: ");
    for (uint32_t i = 1; i < n; i++) {
        psc_buf_printf(out, "%s%s", i > 1 ? ", " : "", names->tag[i]);
    }
    if (f->n_tags > n) {
        psc_buf_printf(out, " and %u more", f->n_tags - n);
    }
    psc_buf_printf(out, "; together %s a day.",
                   bytes_text(f->group_bytes_per_day, day));
}

static void put_forecast(const struct detect_finding *f, struct psc_buf *out)
{
    char room[TEXT_BYTES], at[TEXT_BYTES], from[TEXT_BYTES], to[TEXT_BYTES];
    if (f->exhaustion_us == 0) {
        return;
    }
    psc_buf_printf(out, " At this rate the %s that are left run out at %s",
                   bytes_text((double)f->room_bytes, room),
                   time_text(f->exhaustion_us, at));
    if (f->earliest_us != 0 && f->latest_us != 0) {
        psc_buf_printf(out, " (between %s and %s)",
                       time_text(f->earliest_us, from),
                       time_text(f->latest_us, to));
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
                   " Evidence: the floor rose over %u windows of %s "
                   "(Mann-Kendall z = %.1f).",
                   f->windows, span_text(f->window_us, window), f->z);
    psc_buf_u8(out, '\0');
}

/* ---- numbers ---- */

/* JSON knows no infinities. */
static void put_real(struct psc_buf *out, const char *name, double v)
{
    bool fits = v > -1e300 && v < 1e300;
    psc_buf_printf(out, ",\"%s\":%.17g", name, fits ? v : 0.0);
}

static void put_int(struct psc_buf *out, const char *name, int64_t v)
{
    psc_buf_printf(out, ",\"%s\":%" PRId64, name, v);
}

void watch_evidence(const struct detect_finding *f, struct psc_buf *out)
{
    psc_buf_printf(out, "{\"method\":\"%s\",\"growing\":%s,\"tag_ids\":[",
                   f->fast ? "fast" : "slow", f->growing ? "true" : "false");
    for (uint32_t i = 0; i < f->n_tags; i++) {
        psc_buf_printf(out, "%s%u", i > 0 ? "," : "", f->tags[i]);
    }
    psc_buf_printf(out, "],\"tag_bytes_per_day\":[");
    for (uint32_t i = 0; i < f->n_tags; i++) {
        double v = f->tag_bytes_per_day[i];
        bool fits = v > -1e300 && v < 1e300;
        psc_buf_printf(out, "%s%.17g", i > 0 ? "," : "", fits ? v : 0.0);
    }
    psc_buf_printf(out, "]");
    put_int(out, "key", (int64_t)f->key);
    put_int(out, "onset_us", f->onset_us);
    put_int(out, "detected_us", f->detected_us);
    put_int(out, "updated_us", f->updated_us);
    put_int(out, "grew_us", f->grew_us);
    put_int(out, "onset_bytes", f->onset_bytes);
    put_int(out, "bytes", f->bytes);
    put_real(out, "bytes_per_day", f->bytes_per_day);
    put_real(out, "group_bytes_per_day", f->group_bytes_per_day);
    put_int(out, "room_bytes", f->room_bytes);
    put_int(out, "exhaustion_us", f->exhaustion_us);
    put_int(out, "earliest_us", f->earliest_us);
    put_int(out, "latest_us", f->latest_us);
    put_real(out, "mann_kendall_z", f->z);
    put_real(out, "confidence", f->confidence);
    put_int(out, "windows", f->windows);
    put_int(out, "window_us", f->window_us);
    psc_buf_printf(out, ",\"information\":%s}",
                   f->information ? "true" : "false");
    psc_buf_u8(out, '\0');
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
    json_t *j = json_loads(json, 0, NULL);
    *f = (struct detect_finding){.change = DETECT_OPENED};
    if (json_is_object(j)) {
        const char *method = json_string_value(json_object_get(j, "method"));
        get_tags(j, f);
        f->fast = method != NULL && strcmp(method, "fast") == 0;
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
        f->z = get_real(j, "mann_kendall_z");
        f->confidence = get_real(j, "confidence");
        f->windows = (uint32_t)get_int(j, "windows");
        f->window_us = get_int(j, "window_us");
    }
    json_decref(j);
    return f->n_tags > 0 && f->onset_us > 0 && f->detected_us > 0;
}
