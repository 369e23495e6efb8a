/* The fleet's directory: text files of short lines.
 *
 * Failures: files that cannot be read or written, settings of another fleet,
 * a damaged line (the last line of a file may be cut: it is ignored). */
#include "tests/bench/fleetsim/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "tests/bench/fleetsim/state_private.h"

enum {
    PATH_BYTES = 4096,
    LINE_BYTES = 4096,
    CA_MAX_BYTES = 256 << 10,
};

#define SETTINGS_FORMAT                                                        \
    "seed %" PRIu64 " tags %u counters %u drivers %u change %.17g windows "    \
    "%.17g silent %.17g slow %.17g reboot_every %" PRIu64                      \
    " interval_us %" PRId64 " leaks %u"

static int path_of(const struct state *s, const char *name,
                   char out[PATH_BYTES], struct psc_error *err)
{
    if (psc_path_join(out, PATH_BYTES, s->dir, name) != PSC_OK) {
        return psc_error_set(err, PSC_LIMIT, "the path is too long");
    }
    return PSC_OK;
}

int state_open_file(const struct state *s, const char *name, const char *mode,
                    FILE **file, struct psc_error *err)
{
    char path[PATH_BYTES];
    int rc = path_of(s, name, path, err);
    if (rc != PSC_OK) {
        return rc;
    }
    *file = fopen(path, mode);
    if (*file == NULL && !(mode[0] == 'r' && errno == ENOENT)) {
        return psc_error_set(err, PSC_IO, "%s: %s", path, strerror(errno));
    }
    return PSC_OK;
}

/* --- settings --- */

static void format_settings(const struct state *s, struct psc_buf *out)
{
    const struct truth_settings *t = &s->settings;
    psc_buf_printf(out, SETTINGS_FORMAT, t->seed, t->n_tags, t->n_counters,
                   t->n_drivers, t->change, t->windows, t->silent, t->slow,
                   t->reboot_every, t->interval_us, t->n_leaks);
    for (uint32_t i = 0; i < t->n_leaks; i++) {
        psc_buf_printf(out, " %" PRId64 " %.17g", t->leaks[i].bytes_per_hour,
                       t->leaks[i].hosts);
    }
    psc_buf_printf(out, " prefix %s\n", s->prefix);
    psc_buf_u8(out, '\0');
}

static bool parse_settings(struct state *s, const char *text)
{
    struct truth_settings *t = &s->settings;
    int used = 0;
    if (sscanf(text,
               "seed %" SCNu64 " tags %u counters %u drivers %u change %lf "
               "windows %lf silent %lf slow %lf reboot_every %" SCNu64
               " interval_us %" SCNd64 " leaks %u%n",
               &t->seed, &t->n_tags, &t->n_counters, &t->n_drivers, &t->change,
               &t->windows, &t->silent, &t->slow, &t->reboot_every,
               &t->interval_us, &t->n_leaks, &used) != 11 ||
        t->n_leaks > TRUTH_LEAKS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < t->n_leaks; i++) {
        int more = 0;
        if (sscanf(text + used, " %" SCNd64 " %lf%n",
                   &t->leaks[i].bytes_per_hour, &t->leaks[i].hosts,
                   &more) != 2) {
            return false;
        }
        used += more;
    }
    return sscanf(text + used, " prefix %31s", s->prefix) == 1;
}

/* Settings as they are on disk must be as they are now. */
static int settle_settings(struct state *s, bool given, struct psc_error *err)
{
    char path[PATH_BYTES];
    struct psc_buf mine, there;
    psc_buf_init(&mine, 4096);
    psc_buf_init(&there, 4096);
    format_settings(s, &mine);
    int rc = path_of(s, "fleet", path, err);
    FILE *file = NULL;
    if (rc == PSC_OK) {
        rc = state_open_file(s, "fleet", "r", &file, err);
    }
    if (rc == PSC_OK && file != NULL) {
        rc = psc_file_read(path, &there, err);
        psc_buf_u8(&there, '\0');
        if (rc == PSC_OK && given &&
            strcmp((char *)mine.data, (char *)there.data) != 0) {
            rc = psc_error_set(err, PSC_CONFIG,
                               "%s is of a fleet with other settings: %.120s",
                               path, (char *)there.data);
        } else if (rc == PSC_OK && !parse_settings(s, (char *)there.data)) {
            rc = psc_error_set(err, PSC_FORMAT, "%s: damaged", path);
        }
    } else if (rc == PSC_OK && given) {
        mine.len--;
        rc = psc_file_write(path, psc_buf_bytes(&mine), 0644, err);
    } else if (rc == PSC_OK) {
        rc = psc_error_set(err, PSC_MISSING, "%s: no fleet is there", s->dir);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    psc_buf_fini(&mine);
    psc_buf_fini(&there);
    return rc;
}

/* --- whom to trust --- */

int state_set_ca(struct state *s, struct psc_bytes pem, struct psc_error *err)
{
    char path[PATH_BYTES];
    int rc = path_of(s, "ca.pem", path, err);
    if (rc == PSC_OK) {
        rc = psc_file_write(path, pem, 0644, err);
    }
    psc_buf_reset(&s->ca);
    psc_buf_append(&s->ca, pem.data, pem.len);
    psc_buf_u8(&s->ca, '\0');
    return rc == PSC_OK ? psc_buf_error(&s->ca) : rc;
}

static int read_ca(struct state *s, struct psc_error *err)
{
    char path[PATH_BYTES];
    FILE *file = NULL;
    int rc = path_of(s, "ca.pem", path, err);
    if (rc == PSC_OK) {
        rc = state_open_file(s, "ca.pem", "r", &file, err);
    }
    if (rc == PSC_OK && file != NULL) {
        (void)fclose(file);
        rc = psc_file_read(path, &s->ca, err);
        psc_buf_u8(&s->ca, '\0');
    }
    return rc;
}

/* --- runs --- */

static int add_run(struct state *s, const struct state_run *run)
{
    struct state_run *grown =
        realloc(s->runs, (s->n_runs + 1) * sizeof(*s->runs));
    if (grown == NULL) {
        return PSC_NOMEM;
    }
    s->runs = grown;
    s->runs[s->n_runs++] = *run;
    return PSC_OK;
}

static int read_runs(struct state *s, struct psc_error *err)
{
    FILE *file = NULL;
    int rc = state_open_file(s, "runs", "r", &file, err);
    char line[LINE_BYTES];
    while (rc == PSC_OK && file != NULL &&
           fgets(line, sizeof(line), file) != NULL) {
        struct state_run run;
        int history;
        if (strchr(line, '\n') != NULL &&
            sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNd64 " %d", &run.first,
                   &run.n, &run.start_us, &history) == 4) {
            run.history = history != 0;
            if (s->n_runs > 0) { /* the one before has ended */
                s->runs[s->n_runs - 1].n =
                    run.first - s->runs[s->n_runs - 1].first;
            }
            rc = add_run(s, &run);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return rc;
}

int state_begin_run(struct state *s, int64_t start_us, int64_t now_us,
                    uint64_t n, bool history, struct psc_error *err)
{
    struct state_run run = {0, n, start_us, history};
    if (s->n_runs > 0) {
        struct state_run *last = &s->runs[s->n_runs - 1];
        int64_t passed = (now_us - last->start_us) / s->settings.interval_us;
        if (last->n == UINT64_MAX) {
            last->n = passed > 0 ? (uint64_t)passed + 1 : 1;
        }
        run.first = last->first + last->n;
    }
    FILE *file = NULL;
    int rc = state_open_file(s, "runs", "a", &file, err);
    if (rc != PSC_OK) {
        return rc;
    }
    int written = fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRId64 " %d\n",
                          run.first, run.n, run.start_us, run.history);
    if (fclose(file) != 0 || written < 0) {
        return psc_error_set(err, PSC_IO, "%s/runs: cannot write", s->dir);
    }
    return add_run(s, &run);
}

int64_t state_time_us(const struct state *s, const struct truth_host *h,
                      uint64_t k)
{
    for (unsigned i = s->n_runs; i-- > 0;) {
        const struct state_run *run = &s->runs[i];
        if (k >= run->first) {
            return k - run->first >= run->n
                       ? 0
                       : run->start_us + truth_phase_us(h) +
                             (int64_t)(k - run->first) *
                                 s->settings.interval_us;
        }
    }
    return 0;
}

int64_t state_boot_us(const struct state *s, const struct truth_host *h,
                      const struct truth_boot *boot)
{
    return state_time_us(s, h, boot->first) - truth_boot_age_us(h, boot);
}

/* --- acknowledgements --- */

/* @value in @base, then @end; printf() takes ten times as long, and this is
 * written for every sample. */
static char *put_number(char *out, uint64_t value, unsigned base, char end)
{
    char digits[24];
    unsigned n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0);
    while (n > 0) {
        *out++ = digits[--n];
    }
    *out++ = end;
    return out;
}

void state_log_ack(struct state *s, uint32_t host, uint64_t stream,
                   uint64_t seq, uint64_t k, int64_t now_us)
{
    char line[128];
    char *at = put_number(line, host, 10, ' ');
    at = put_number(at, stream, 16, ' ');
    at = put_number(at, seq, 10, ' ');
    at = put_number(at, k, 10, ' ');
    at = put_number(at, (uint64_t)now_us, 10, '\n');
    (void)fwrite(line, 1, (size_t)(at - line), s->acked_file);
}

void state_flush(struct state *s)
{
    (void)fflush(s->acked_file);
}

int state_read_acks(const struct state *s,
                    void (*each)(void *user, uint32_t host, uint64_t k),
                    void *user, struct psc_error *err)
{
    FILE *file = NULL;
    int rc = state_open_file(s, "acked", "r", &file, err);
    char line[LINE_BYTES];
    while (rc == PSC_OK && file != NULL &&
           fgets(line, sizeof(line), file) != NULL) {
        uint32_t host;
        uint64_t stream, seq, k;
        if (strchr(line, '\n') != NULL &&
            sscanf(line, "%u %" SCNx64 " %" SCNu64 " %" SCNu64, &host, &stream,
                   &seq, &k) == 4) {
            each(user, host, k);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return rc;
}

/* --- the whole --- */

int state_open(struct state *s, const char *dir,
               const struct truth_settings *settings, const char *prefix,
               struct psc_error *err)
{
    *s = (struct state){.dir = strdup(dir)};
    psc_buf_init(&s->ca, CA_MAX_BYTES);
    if (s->dir == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    int rc = PSC_OK;
    if (settings != NULL) {
        s->settings = *settings;
        (void)snprintf(s->prefix, sizeof(s->prefix), "%s", prefix);
        rc = psc_dir_make(dir, 0700, err);
    }
    if (rc == PSC_OK) {
        rc = settle_settings(s, settings != NULL, err);
    }
    if (rc == PSC_OK) {
        rc = state_read_identities(s, err);
    }
    if (rc == PSC_OK) {
        rc = read_ca(s, err);
    }
    if (rc == PSC_OK) {
        rc = read_runs(s, err);
    }
    if (rc == PSC_OK && settings != NULL) {
        rc = state_open_file(s, "identities", "a", &s->identity_file, err);
    }
    if (rc == PSC_OK && settings != NULL) {
        rc = state_open_file(s, "acked", "a", &s->acked_file, err);
    }
    return rc;
}

void state_close(struct state *s)
{
    if (s->identity_file != NULL) {
        (void)fclose(s->identity_file);
    }
    if (s->acked_file != NULL) {
        (void)fclose(s->acked_file);
    }
    for (uint32_t i = 0; i < s->n_identities; i++) {
        free(s->identities[i].key);
        free(s->identities[i].cert);
    }
    free(s->identities);
    free(s->runs);
    free(s->dir);
    psc_buf_fini(&s->ca);
    *s = (struct state){.dir = NULL};
}

void state_host_name(const struct state *s, uint32_t number,
                     char out[STATE_HOST_MAX])
{
    (void)snprintf(out, STATE_HOST_MAX, "%s%u", s->prefix, number);
}
