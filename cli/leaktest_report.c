/* What a leak test tells. See leaktest_report.h. */
#include "cli/leaktest_report.h"

#include <inttypes.h>
#include <jansson.h>
#include <time.h>

#include "cli/units.h"
#include "common/clock.h"

#define DAY_S 86400.0
/* Free room in a cache is worth a word if filling it takes so long. */
#define NOTABLE_FILL_S 5.0

int64_t leak_report_bytes(const struct leak_report *r)
{
    return (int64_t)((double)r->objects * r->plan->object_bytes);
}

static int64_t sum(const struct leak_report *r, const int64_t *held)
{
    int64_t total = 0;

    for (size_t i = 0; i < r->plan->n_shares; i++) {
        total += r->plan->shares[i].counted ? held[i] - r->held_before[i] : 0;
    }
    return total;
}

int64_t leak_report_grown(const struct leak_report *r)
{
    return sum(r, r->held);
}

void leak_report_plan(const struct leak_report *r, FILE *out)
{
    const struct leak_plan *plan = r->plan;
    double rate = (double)r->bytes_per_s;

    fprintf(out, "leaktest: %s, %s/s, ", r->kind, unit_bytes(rate).text);
    if (r->for_us > 0) {
        fprintf(out, "for %s, ", unit_span(r->for_us).text);
    } else {
        fprintf(out, "until stopped, ");
    }
    fprintf(out, "at most %s (%s are available)\n",
            unit_bytes((double)r->limit_bytes).text,
            unit_bytes((double)r->available_bytes).text);
    fprintf(out,
            "An object costs %.0f B on this kernel, measured just now. "
            "What should grow:\n",
            plan->object_bytes);
    fprintf(out, "  %-7s %-26s %10s %6s %12s %14s\n", "POOL", "TAG", "B/OBJECT",
            "SHARE", "PER SECOND", "PER DAY");
    for (size_t i = 0; i < plan->n_shares; i++) {
        const struct leak_share *s = &plan->shares[i];
        fprintf(out, "  %-7s %-26s %10.1f %4.0f %% %10s/s %14s%s\n",
                pool_name(s->pool), s->tag, s->object_bytes, s->share * 100,
                unit_bytes(rate * s->share).text,
                unit_bytes_per_day(rate * s->share * DAY_S).text,
                s->counted ? "" : "  (the same memory once more)");
    }
    for (size_t i = 0; i < plan->n_shares; i++) {
        const struct leak_share *s = &plan->shares[i];
        double fill_s = (double)s->free_bytes / (rate * s->share);
        if (fill_s >= NOTABLE_FILL_S) {
            fprintf(out,
                    "%s has %s free in pages that it holds already: it "
                    "grows after %s.\n",
                    s->tag, unit_bytes((double)s->free_bytes).text,
                    unit_span((int64_t)(fill_s * 1e6)).text);
        }
    }
    fflush(out);
}

void leak_report_progress(const struct leak_report *r, bool tty, FILE *out)
{
    double made = (double)leak_report_bytes(r);
    double grown_s = (double)r->grown_us / 1e6;

    fprintf(out, "%s%8s  %9s made, %9s/s", tty ? "\r" : "",
            unit_clock(r->elapsed_us).text, unit_bytes(made).text,
            unit_bytes(grown_s > 0 ? made / grown_s : 0).text);
    if (r->measured) {
        fprintf(out, "; the tags have grown by %9s",
                unit_bytes((double)leak_report_grown(r)).text);
    }
    fprintf(out, "; %s objects in %d worker%s%s", unit_count(r->objects).text,
            r->workers, r->workers == 1 ? "" : "s", tty ? "\033[K" : "\n");
    fflush(out);
}

void leak_report_end(const struct leak_report *r, FILE *out)
{
    double grown_s = (double)r->grown_us / 1e6;

    fprintf(out, "Ended (%s) after %s: %s objects, %s, %s/s.\n", r->ended_by,
            unit_clock(r->elapsed_us).text, unit_count(r->objects).text,
            unit_bytes((double)leak_report_bytes(r)).text,
            unit_bytes(grown_s > 0 ? (double)leak_report_bytes(r) / grown_s : 0)
                .text);
    if (r->measured) {
        fprintf(out,
                "The tags had grown by %s; with everything freed, %s remain.\n",
                unit_bytes((double)leak_report_grown(r)).text,
                unit_bytes((double)sum(r, r->held_after)).text);
    }
    fflush(out);
}

static json_t *share_json(const struct leak_report *r, size_t i)
{
    const struct leak_share *s = &r->plan->shares[i];
    json_t *tag =
        json_pack("{s:s, s:s, s:f, s:f, s:b, s:I, s:f}", "pool",
                  pool_name(s->pool), "tag", s->tag, "bytes_per_object",
                  s->object_bytes, "share", s->share, "counted", s->counted,
                  "bytes", (json_int_t)((double)r->objects * s->object_bytes),
                  "bytes_per_day", (double)r->bytes_per_s * s->share * DAY_S);

    if (tag && r->measured) {
        json_object_set_new(
            tag, "measured_bytes",
            json_integer((json_int_t)(r->held[i] - r->held_before[i])));
        json_object_set_new(
            tag, "remaining_bytes",
            json_integer((json_int_t)(r->held_after[i] - r->held_before[i])));
    }
    return tag;
}

int leak_report_json(const struct leak_report *r, FILE *out)
{
    json_t *tags = json_array();
    char started[32];
    struct tm tm;
    time_t s = (time_t)(r->started_wall_us / PSC_US_PER_S);

    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&s, &tm));
    for (size_t i = 0; i < r->plan->n_shares; i++) {
        json_array_append_new(tags, share_json(r, i));
    }
    json_t *all = json_pack(
        "{s:s, s:s, s:s, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:i, s:o}", "kind",
        r->kind, "started_at", started, "ended_by", r->ended_by, "seconds",
        (double)r->elapsed_us / 1e6, "growing_seconds",
        (double)r->grown_us / 1e6, "rate_bytes_per_s",
        (json_int_t)r->bytes_per_s, "limit_bytes", (json_int_t)r->limit_bytes,
        "objects", (json_int_t)r->objects, "bytes",
        (json_int_t)leak_report_bytes(r), "bytes_per_object",
        r->plan->object_bytes, "workers", r->workers, "tags", tags);
    int rc = all && json_dumpf(all, out,
                               JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0
                 ? 0
                 : PSC_NOMEM;
    json_decref(all);
    fputc('\n', out);
    return rc;
}
