/* The figures of a run: a table for people, JSON for scripts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "common/file.h"
#include "tests/bench/fleetsim/entropy.h"
#include "tests/bench/fleetsim/fleet.h"

enum { ENTROPY_HOSTS = 16, ENTROPY_SNAPSHOTS = 512, TEXT_MAX = 16 << 10 };

struct figures {
    const struct fleet *f;
    struct course_mark span; /* of the figures, but for the next */
    double seconds;
    double cpu_s;
    long peak_kib; /* of memory */
    uint64_t unacked;
    struct entropy entropy;
};

static double per(double x, double of)
{
    return of > 0 ? x / of : 0;
}

static double ms(const struct times *t, double share)
{
    return (double)times_share(t, share) / 1000;
}

static int gather(const struct fleet *f, struct figures *g)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    *g = (struct figures){.f = f, .peak_kib = usage.ru_maxrss};
    course_figures(f, &g->span);
    g->seconds = (double)g->span.at_us / PSC_US_PER_S;
    g->cpu_s = (double)g->span.cpu_us / PSC_US_PER_S;
    g->unacked = f->stats.samples - f->stats.repeated - f->stats.acked;
    return entropy_measure(&f->truth, ENTROPY_HOSTS, ENTROPY_SNAPSHOTS,
                           &g->entropy);
}

static void print_entropy(const struct truth *t, const struct entropy *e)
{
    static const char *const names[] = {"allocs", "frees", "outstanding",
                                        "bytes"};
    (void)printf("changing cells          %.4f of all (asked for: %.4g)\n",
                 e->changed, t->s.change);
    (void)printf("entropy per cell, bits  %.3f (one distribution for all "
                 "tags), %.3f (one for each)\n",
                 e->cell_fleet, e->cell_tag);
    (void)printf("  whether it changes    %.3f, %.3f\n", e->change_fleet,
                 e->change_tag);
    for (unsigned i = 0; i < 4; i++) {
        (void)printf("  a change of %-11s %6.3f, %.3f\n", names[i],
                     e->column_fleet[i], e->column_tag[i]);
    }
}

static void print_table(const struct figures *g)
{
    const struct fleet *f = g->f;
    const struct stats *s = &g->span.stats;
    const struct truth_settings *t = &f->truth.s;
    double samples = (double)s->samples;
    (void)printf("hosts                   %u of %u tags and %u counters, "
                 "seed %" PRIu64 "\n",
                 f->n, t->n_tags, t->n_counters, t->seed);
    (void)printf("time                    %.1f s\n", g->seconds);
    (void)printf("samples sent            %" PRIu64 " (%.1f/s), %" PRIu64
                 " of them again, %" PRIu64 " keyframes\n",
                 s->samples, per(samples, g->seconds), s->repeated,
                 s->keyframes);
    (void)printf("acknowledged            %" PRIu64 ", %" PRIu64
                 " of them by a Cursor; unacknowledged at the end: %" PRIu64
                 "\n",
                 s->acked, s->by_cursor, g->unacked);
    (void)printf("acknowledged and gone   %" PRIu64 "\n", s->lost);
    (void)printf("cells (tag in sample)   %" PRIu64 " (%.0f/s)\n", s->cells,
                 per((double)s->cells, g->seconds));
    (void)printf("changed in deltas       %" PRIu64 " cells, %" PRIu64
                 " values\n",
                 s->changed, s->values);
    (void)printf("payload                 %" PRIu64 " bytes (%.0f/s), %.0f a "
                 "sample, %.3f a cell\n",
                 s->bytes, per((double)s->bytes, g->seconds),
                 per((double)s->bytes, samples),
                 per((double)s->bytes, (double)s->cells));
    (void)printf("acknowledgement, ms     p50 %.1f  p99 %.1f  max %.1f\n",
                 ms(&s->ack, 0.5), ms(&s->ack, 0.99), ms(&s->ack, 1));
    (void)printf("sessions                %" PRIu64 " (%" PRIu64
                 " resumed) in %" PRIu64 " tries, %" PRIu64
                 " connections lost, %" PRIu64 " refusals, %" PRIu64
                 " keyframes asked for, %" PRIu64 " lives more\n",
                 s->sessions, s->resumed, s->tries, s->drops, s->refusals,
                 s->need_keyframes, s->reboots);
    (void)printf("reconnected after, ms   p50 %.1f  p99 %.1f  max %.1f "
                 "(%" PRIu64 " times)\n",
                 ms(&s->reconnect, 0.5), ms(&s->reconnect, 0.99),
                 ms(&s->reconnect, 1), s->reconnect.n);
    (void)printf("  caught up after, ms   p50 %.1f  p99 %.1f  max %.1f "
                 "(%" PRIu64 " times)\n",
                 ms(&s->caught_up, 0.5), ms(&s->caught_up, 0.99),
                 ms(&s->caught_up, 1), s->caught_up.n);
    (void)printf("simulator's CPU         %.2f s, %.1f us a sample; encoding "
                 "%.1f us\n",
                 g->cpu_s, per(g->cpu_s * 1e6, samples),
                 per((double)s->encode_ns / 1e3, samples));
    (void)printf("simulator's memory      %.1f MiB, %.1f KiB a host\n",
                 (double)g->peak_kib / 1024, per((double)g->peak_kib, f->n));
    print_entropy(&f->truth, &g->entropy);
}

static void put_times(struct psc_buf *out, const char *name,
                      const struct times *t)
{
    psc_buf_printf(out,
                   "  \"%s_ms\": {\"n\": %" PRIu64 ", \"p50\": %.3f, "
                   "\"p99\": %.3f, \"max\": %.3f},\n",
                   name, t->n, ms(t, 0.5), ms(t, 0.99), ms(t, 1));
}

static void put_count(struct psc_buf *out, const char *name, uint64_t value)
{
    psc_buf_printf(out, "  \"%s\": %" PRIu64 ",\n", name, value);
}

static int write_json(const struct figures *g, const char *path,
                      struct psc_error *err)
{
    const struct fleet *f = g->f;
    const struct stats *s = &g->span.stats;
    struct psc_buf out;
    psc_buf_init(&out, TEXT_MAX);
    psc_buf_printf(&out, "{\n");
    put_count(&out, "hosts", f->n);
    put_count(&out, "tags", f->truth.s.n_tags);
    put_count(&out, "counters", f->truth.s.n_counters);
    put_count(&out, "seed", f->truth.s.seed);
    put_count(&out, "samples", s->samples);
    put_count(&out, "repeated", s->repeated);
    put_count(&out, "keyframes", s->keyframes);
    put_count(&out, "acknowledged", s->acked);
    put_count(&out, "unacknowledged", g->unacked);
    put_count(&out, "acknowledged_and_gone", s->lost);
    put_count(&out, "cells", s->cells);
    put_count(&out, "changed_cells", s->changed);
    put_count(&out, "changed_values", s->values);
    put_count(&out, "batches", s->batches);
    put_count(&out, "payload_bytes", s->bytes);
    put_count(&out, "sessions", s->sessions);
    put_count(&out, "resumed", s->resumed);
    put_count(&out, "tries", s->tries);
    put_count(&out, "drops", s->drops);
    put_count(&out, "refusals", s->refusals);
    put_count(&out, "need_keyframes", s->need_keyframes);
    put_count(&out, "memory_kib", (uint64_t)g->peak_kib);
    put_times(&out, "acknowledgement", &s->ack);
    put_times(&out, "reconnect", &s->reconnect);
    put_times(&out, "caught_up", &s->caught_up);
    psc_buf_printf(&out,
                   "  \"seconds\": %.3f,\n  \"cpu_seconds\": %.3f,\n"
                   "  \"encode_seconds\": %.3f,\n"
                   "  \"changed\": %.5f,\n"
                   "  \"entropy_bits_per_cell\": %.4f,\n"
                   "  \"entropy_bits_per_cell_by_tag\": %.4f\n}\n",
                   g->seconds, g->cpu_s, (double)s->encode_ns / 1e9,
                   g->entropy.changed, g->entropy.cell_fleet,
                   g->entropy.cell_tag);
    int rc = psc_buf_error(&out);
    if (rc == PSC_OK) {
        rc = psc_file_write(path, psc_buf_bytes(&out), 0644, err);
    }
    psc_buf_fini(&out);
    return rc;
}

int fleet_report(const struct fleet *f, struct psc_error *err)
{
    struct figures *g = calloc(1, sizeof(*g));
    if (g == NULL || gather(f, g) != PSC_OK) {
        free(g);
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    print_table(g);
    int rc = f->options->report != NULL ? write_json(g, f->options->report, err)
                                        : PSC_OK;
    free(g);
    return rc;
}

int fleet_print_entropy(const struct sim_options *o, struct psc_error *err)
{
    struct truth_settings settings;
    struct truth t;
    struct entropy e;
    int rc = sim_options_truth(o, &settings, err);
    if (rc == PSC_OK) {
        rc = truth_init(&t, &settings, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    rc = entropy_measure(&t, ENTROPY_HOSTS, ENTROPY_SNAPSHOTS, &e);
    if (rc == PSC_OK) {
        print_entropy(&t, &e);
    }
    truth_fini(&t);
    return rc;
}
