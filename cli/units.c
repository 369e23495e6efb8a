/* Numbers and times as text, and back. See units.h. */
#include "cli/units.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/config.h"

#define SECOND_US PSC_US_PER_S
#define MINUTE_US (60 * SECOND_US)
#define HOUR_US   (60 * MINUTE_US)
#define DAY_US    (24 * HOUR_US)

struct unit_text unit_bytes(double bytes)
{
    static const char *const names[] = {"B",   "KiB", "MiB", "GiB",
                                        "TiB", "PiB", "EiB"};
    struct unit_text out;
    double v = fabs(bytes);
    size_t i = 0;

    while (v >= 999.5 && i + 1 < sizeof names / sizeof *names) {
        v /= 1024;
        i++;
    }
    int digits = i == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;
    snprintf(out.text, sizeof out.text, "%s%.*f %s",
             bytes < 0 && v > 0 ? "-" : "", digits, v, names[i]);
    return out;
}

struct unit_text unit_bytes_per_day(double bytes)
{
    struct unit_text number = unit_bytes(bytes);
    struct unit_text out;

    snprintf(out.text, sizeof out.text, "%.30s/day", number.text);
    return out;
}

struct unit_text unit_count(int64_t n)
{
    struct unit_text out;
    char digits[24];
    size_t used = 0;
    int len = snprintf(digits, sizeof digits, "%" PRIu64,
                       n < 0 ? 0 - (uint64_t)n : (uint64_t)n);

    if (n < 0) {
        out.text[used++] = '-';
    }
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            out.text[used++] = ',';
        }
        out.text[used++] = digits[i];
    }
    out.text[used] = '\0';
    return out;
}

static const struct {
    int64_t us;
    int64_t from_us; /* shorter spans are told in the next unit */
    const char *name;
} units[] = {{365 * DAY_US, 730 * DAY_US, "y"},
             {DAY_US, 48 * HOUR_US, "d"},
             {HOUR_US, HOUR_US, "h"},
             {MINUTE_US, MINUTE_US, "min"},
             {SECOND_US, 0, "s"}};
enum { N_UNITS = sizeof units / sizeof *units };

static size_t unit_of(int64_t us)
{
    size_t i = 0;

    while (i + 1 < N_UNITS && us < units[i].from_us) {
        i++;
    }
    return i;
}

static int64_t round_to(int64_t us, int64_t step_us)
{
    int64_t rest = us % step_us;

    return rest < step_us - rest || us > INT64_MAX - step_us
               ? us - rest
               : us - rest + step_us;
}

struct unit_text unit_span(int64_t us)
{
    struct unit_text out;

    us = us == INT64_MIN ? INT64_MAX : llabs(us);
    size_t i = unit_of(us);
    bool two = i + 1 < N_UNITS && us < 10 * units[i].us;
    us = round_to(us, units[i + (two ? 1 : 0)].us);
    i = unit_of(us); /* 59 min 59 s are an hour */
    int64_t whole = us / units[i].us;
    int64_t part =
        two && i + 1 < N_UNITS ? us % units[i].us / units[i + 1].us : 0;
    if (part == 0 || whole >= 10) {
        snprintf(out.text, sizeof out.text, "%" PRId64 " %s", whole,
                 units[i].name);
    } else {
        snprintf(out.text, sizeof out.text, "%" PRId64 " %s %" PRId64 " %s",
                 whole, units[i].name, part, units[i + 1].name);
    }
    return out;
}

struct unit_text unit_ago(int64_t at_us, int64_t now_us)
{
    struct unit_text out;
    int64_t us = now_us - at_us;

    if (us > -SECOND_US && us < 2 * SECOND_US) {
        snprintf(out.text, sizeof out.text, "just now");
        return out;
    }
    struct unit_text span = unit_span(us);
    int64_t length_us = round_to(llabs(us), MINUTE_US);
    size_t i = unit_of(length_us);
    if (length_us >= HOUR_US) { /* one unit: "1.5 h", "25 h", "3.2 d" */
        double n = (double)llabs(us) / (double)units[i].us;
        n = n < (units[i].us == HOUR_US ? 9.95 : 99.95) ? round(n * 10) / 10
                                                        : round(n);
        snprintf(span.text, sizeof span.text, "%.*f %s", n == floor(n) ? 0 : 1,
                 n, units[i].name);
    }
    snprintf(out.text, sizeof out.text, us < 0 ? "in %.30s" : "%.30s ago",
             span.text);
    return out;
}

struct unit_text unit_clock(int64_t us)
{
    struct unit_text out;
    int64_t s = us / SECOND_US;

    if (s >= 3600) {
        snprintf(out.text, sizeof out.text, "%" PRId64 ":%02d:%02d", s / 3600,
                 (int)(s / 60 % 60), (int)(s % 60));
    } else {
        snprintf(out.text, sizeof out.text, "%d:%02d", (int)(s / 60),
                 (int)(s % 60));
    }
    return out;
}

/* Two digits at @p as a number, -1 if they are none. */
static int two_digits(const char *p)
{
    bool digits = p[0] >= '0' && p[0] <= '9' && p[1] >= '0' && p[1] <= '9';

    return digits ? (p[0] - '0') * 10 + p[1] - '0' : -1;
}

/* Read "Z", "+02", "+0200" or "+02:00" at @p up to the end of the text. */
static bool parse_zone(const char *p, int *offset_s)
{
    int minutes = 0;

    if (strcmp(p, "Z") == 0 || strcmp(p, "z") == 0) {
        *offset_s = 0;
        return true;
    }
    if (*p != '+' && *p != '-') {
        return false;
    }
    int sign = *p == '-' ? -1 : 1;
    int hours = two_digits(p + 1);
    if (hours >= 0 && p[3] != '\0') {
        const char *rest = p[3] == ':' ? p + 4 : p + 3;
        minutes = two_digits(rest);
        if (minutes >= 0 && rest[2] != '\0') {
            return false;
        }
    }
    if (hours < 0 || hours > 14 || minutes < 0 || minutes > 59) {
        return false;
    }
    *offset_s = (hours * 60 + minutes) * 60 * sign;
    return true;
}

/* Read the date and the time of day at the start of @text into @tm and
 * *@fraction_us. Returns what follows, or NULL if it is none. */
static const char *parse_date(const char *text, struct tm *tm,
                              int64_t *fraction_us)
{
    const char *p = strptime(text, "%Y-%m-%d", tm);

    if (!p || (*p != 'T' && *p != 't' && *p != ' ')) {
        return p;
    }
    p = strptime(p + 1, "%H:%M", tm);
    if (p && *p == ':') {
        p = strptime(p + 1, "%S", tm);
    }
    if (p && *p == '.') {
        int64_t scale = SECOND_US;
        for (p++; *p >= '0' && *p <= '9'; p++) {
            scale /= 10;
            *fraction_us += (*p - '0') * scale;
        }
    }
    return p;
}

int unit_time_parse(const char *text, int64_t now_us, int64_t *at_us,
                    struct psc_error *err)
{
    struct tm tm = {0};
    int64_t fraction_us = 0;
    int64_t span_us;
    int offset_s;

    if (strcmp(text, "now") == 0) {
        *at_us = now_us;
        return 0;
    }
    const char *rest = parse_date(text, &tm, &fraction_us);
    if (rest && *rest == '\0') {
        *at_us = (int64_t)timegm(&tm) * SECOND_US + fraction_us;
        return 0;
    }
    if (rest && parse_zone(rest, &offset_s)) {
        *at_us = ((int64_t)timegm(&tm) - offset_s) * SECOND_US + fraction_us;
        return 0;
    }
    if (psc_duration_parse(text, &span_us) == 0) {
        *at_us = now_us - span_us;
        return 0;
    }
    return psc_error_set(err, PSC_CONFIG,
                         "'%.60s' is no time: write a span back from now "
                         "(15m, 2h, 3d) or a date in UTC (2026-03-02, "
                         "2026-03-02T14:00, with a zone 2026-03-02T14:00+02)",
                         text);
}

int unit_rate_parse(const char *text, int64_t *bytes_per_s,
                    struct psc_error *err)
{
    char number[32];
    size_t len = strlen(text);

    if (len > 2 && strcmp(text + len - 2, "/s") == 0) {
        len -= 2;
    }
    if (len < sizeof number) {
        memcpy(number, text, len);
        number[len] = '\0';
        if (psc_size_parse(number, bytes_per_s) == 0 && *bytes_per_s > 0) {
            return 0;
        }
    }
    return psc_error_set(err, PSC_CONFIG,
                         "'%.60s' is no rate: write bytes per second such "
                         "as 256K or 1M/s",
                         text);
}
