/* Snapshots as the text that Prometheus reads.
 *
 * Numbers are put by hand: a page has some 8,000 of them. */
#include "tests/bench/fleetsim/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

enum { PAGE_MAX_BYTES = 64 << 20, LINE_BYTES = 512 };

/* --- lines --- */

struct writer {
    struct psc_buf *out;
    char labels[LINE_BYTES]; /* with braces, of the series at hand */
    size_t labels_len;
    char time[32]; /* with a blank before, or empty */
    size_t time_len;
};

static void put_line(struct writer *w, const char *name, int64_t value)
{
    char digits[24];
    char *at = digits + sizeof(digits);
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--at = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0) {
        *--at = '-';
    }
    *--at = ' ';
    psc_buf_append(w->out, name, strlen(name));
    psc_buf_append(w->out, w->labels, w->labels_len);
    psc_buf_append(w->out, at, (size_t)(digits + sizeof(digits) - at));
    psc_buf_append(w->out, w->time, w->time_len);
    psc_buf_u8(w->out, '\n');
}

/* @name and @value: the labels' ends differ by who asks. */
static void set_labels(struct writer *w, const char *host, const char *first,
                       const char *second)
{
    int n =
        snprintf(w->labels, sizeof(w->labels), "{%s%s%s%s%s}",
                 host != NULL ? "instance=\"" : "", host != NULL ? host : "",
                 host != NULL ? "\"," : "", first, second);
    w->labels_len = n > 0 ? (size_t)n : 0;
}

static void put_tag(struct writer *w, const struct truth_host *h,
                    const struct truth_boot *boot, uint32_t word, uint64_t k,
                    const char *host)
{
    uint8_t key[TRUTH_KEY_MAX];
    char pool[32], tag[TRUTH_KEY_MAX + 16];
    int64_t values[TABLE_COLUMNS_MAX];
    size_t len = truth_tag_key(h, word, key);
    truth_tag_at(h, boot, word, k, values);
    (void)snprintf(pool, sizeof(pool), "pool=\"%s\"",
                   pool_name((enum pool)key[0]));
    (void)snprintf(tag, sizeof(tag), ",tag=\"%.*s\"", (int)len - 1,
                   (const char *)key + 1);
    set_labels(w, host, pool, tag);
    if (h->windows) {
        put_line(w, "pool_allocs_total", values[COL_ALLOCS]);
        put_line(w, "pool_frees_total", values[COL_FREES]);
    } else {
        put_line(w, "pool_objects", values[COL_OUTSTANDING]);
    }
    put_line(w, "pool_bytes", values[COL_BYTES]);
}

static void put_counter(struct writer *w, const struct truth_host *h,
                        const struct truth_boot *boot, uint32_t counter,
                        uint64_t k, const char *host)
{
    uint8_t key[TRUTH_KEY_MAX + 1];
    char part[TRUTH_KEY_MAX + 16];
    key[truth_counter_key(h, counter, key)] = '\0';
    const char *name = (const char *)key;
    int64_t value = truth_counter_at(h, boot, counter, k);
    (void)snprintf(part, sizeof(part), "part=\"%s\"", name + strlen(name) + 1);
    set_labels(w, host, part, "");
    if ((truth_counter_flags(counter) & ENTRY_REAL) == 0) {
        put_line(w, name, value);
        return;
    }
    double real;
    memcpy(&real, &value, sizeof(real));
    psc_buf_printf(w->out, "%s%s %.17g%s\n", name, w->labels, real, w->time);
}

void export_snapshot(const struct truth_host *h, uint64_t k, const char *name,
                     int64_t at_us, struct psc_buf *out)
{
    struct writer w = {.out = out};
    struct truth_boot boot;
    truth_boot_at(h, k, &boot);
    if (at_us != 0) {
        int n = snprintf(w.time, sizeof(w.time), " %.3f", (double)at_us / 1e6);
        w.time_len = n > 0 ? (size_t)n : 0;
    }
    for (uint32_t slot = 0; slot < h->truth->s.n_tags; slot++) {
        uint32_t word = truth_word(h, slot);
        if (truth_tag_present(h, word, k)) {
            put_tag(&w, h, &boot, word, k, name);
        }
    }
    for (uint32_t i = 0; i < h->truth->s.n_counters; i++) {
        put_counter(&w, h, &boot, i, k, name);
    }
}

/* --- a history --- */

static int print_host(const struct sim_options *o, const struct truth *t,
                      uint32_t number, int64_t start_us, struct psc_error *err)
{
    struct truth_host h;
    struct psc_buf page;
    char name[64];
    int rc = PSC_OK;
    truth_host_init(&h, t, number);
    (void)snprintf(name, sizeof(name), "%s%u", o->prefix, number);
    psc_buf_init(&page, PAGE_MAX_BYTES);
    uint64_t n = (uint64_t)(o->from_us / o->interval_us);
    for (uint64_t k = 0; k < n && rc == PSC_OK; k++) {
        if (!truth_taken(&h, k)) {
            continue;
        }
        int64_t at_us =
            start_us + truth_phase_us(&h) + (int64_t)k * o->interval_us;
        psc_buf_reset(&page);
        export_snapshot(&h, k, name, at_us, &page);
        rc = psc_buf_error(&page);
        if (rc != PSC_OK ||
            fwrite(page.data, 1, page.len, stdout) != page.len) {
            rc = psc_error_set(err, PSC_IO, "cannot write the history");
        }
    }
    psc_buf_fini(&page);
    return rc;
}

int export_openmetrics(const struct sim_options *o, struct psc_error *err)
{
    struct truth_settings settings;
    struct truth t;
    if (o->from_us == 0) {
        return psc_error_set(err, PSC_CONFIG, "--openmetrics needs --from");
    }
    int rc = sim_options_truth(o, &settings, err);
    if (rc == PSC_OK) {
        rc = truth_init(&t, &settings, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    int64_t start_us = psc_clock_wall_us() - o->from_us;
    for (int64_t i = 0; i < o->hosts && rc == PSC_OK; i++) {
        rc = print_host(o, &t, (uint32_t)(o->first + i), start_us, err);
    }
    if (rc == PSC_OK && (puts("# EOF") < 0 || fflush(stdout) != 0)) {
        rc = psc_error_set(err, PSC_IO, "cannot write the history");
    }
    truth_fini(&t);
    return rc;
}
