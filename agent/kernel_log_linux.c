/* Source kernel_log: events of exhausted memory from /dev/kmsg.
 *
 * Records are read without blocking, a bounded number each tick. Where it has
 * got to (boot and sequence number) is written to the state directory by
 * commit(); a dump still open is read again after a restart, and the collector
 * stores an event of the same position once. Records that the kernel dropped
 * before they were read are an event themselves. A record is read only where
 * memory for the events that it may complete is at hand.
 *
 * In a recorded tree <root>/dev/kmsg is a text file of the same form, and its
 * end completes all dumps. Needs CAP_SYSLOG where dmesg_restrict is set. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/kmsg_linux.h"
#include "agent/procfile_linux.h"
#include "agent/sources_linux.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    RECORD_MAX_BYTES = 8192, /* the kernel gives no longer ones */
    RECORDS_PER_TICK = 4000,
    EVENTS_PER_TICK = 24, /* so that a sample's list holds them all */
    EVENTS_PER_RECORD = KERNEL_DUMPS_MAX + 2, /* all that were open, and it */
    DETAILS_MAX_BYTES = 6144,
    EVENT_MAX_BYTES = DETAILS_MAX_BYTES + 512,
    BOOT_ID_TEXT_BYTES = 36,
};

static const char POSITION_FILE[] = "kernel_log.position";
static const char NEEDS[] = "root or CAP_SYSLOG";

struct kernel_log {
    struct proc_file file;
    bool recorded; /* a text file, not the device */
    char boot_id[BOOT_ID_TEXT_BYTES + 1];
    char state_dir[PROC_PATH_MAX_BYTES]; /* "": positions do not persist */
    bool resumed;                 /* next came from the state directory */
    bool started;                 /* a record has been read */
    uint64_t next;                /* sequence number expected next */
    uint64_t committed;           /* as written last */
    int64_t wall_offset_us;       /* wall clock less records' time */
    uint32_t n_records, n_events; /* of this tick */
    struct kernel_dumps dumps;
    struct psc_buf details; /* of the event being told */
    struct sample *out;     /* during a collection */
};

static struct psc_bytes bytes_of(const char *text)
{
    struct psc_bytes b = {(const uint8_t *)text, strlen(text)};
    return b;
}

static void on_event(void *ctx, const struct kernel_dump *dump)
{
    struct kernel_log *s = ctx;
    psc_buf_reset(&s->details);
    kernel_dump_json(dump, &s->details);
    struct event_record r = {
        .position = dump->seq + 1,
        .at_us = dump->at_us + s->wall_offset_us,
        .source = bytes_of("kernel"),
        .event_id = bytes_of(kernel_event_name(dump->kind)),
        .message = bytes_of(dump->message),
    };
    if (psc_buf_error(&s->details) == 0) {
        r.details = psc_buf_bytes(&s->details);
    }
    if (sample_event(s->out, &r) != PSC_OK) {
        /* A record with dozens of failures in its text: somebody's joke. */
        psc_log_warn("an event of the kernel log is lost: %s", dump->message);
    }
    s->n_events++;
}

static void take_record(struct kernel_log *s, struct text line)
{
    struct kmsg_record r;
    if (!kmsg_parse(line, &r)) {
        return;
    }
    if (r.seq < s->next) {
        return; /* read before */
    }
    if (r.seq > s->next && (s->started || s->resumed)) {
        kernel_dumps_lost(&s->dumps, s->next, r.at_us, r.seq - s->next);
    }
    s->started = true;
    s->next = r.seq + 1;
    kernel_dumps_feed(&s->dumps, &r);
}

static bool has_room(struct kernel_log *s)
{
    return sample_has_room(s->out, EVENTS_PER_RECORD, EVENT_MAX_BYTES);
}

/* Whether this tick may read another record. */
static bool more(struct kernel_log *s)
{
    return s->n_records++ < RECORDS_PER_TICK && s->n_events < EVENTS_PER_TICK &&
           has_room(s);
}

static int on_recorded_line(void *ctx, struct text line)
{
    struct kernel_log *s = ctx;
    struct kmsg_record r;
    if (kmsg_parse(line, &r) && r.seq >= s->next) {
        if (!more(s)) {
            return PSC_LIMIT;
        }
        take_record(s, line);
    }
    return 0;
}

static int read_recorded(struct kernel_log *s, struct psc_error *err)
{
    int rc = proc_file_lines(&s->file, on_recorded_line, s, err);
    if (rc == PSC_LIMIT) {
        return 0; /* the rest at the next tick */
    }
    if (rc == 0 && has_room(s)) {
        kernel_dumps_flush(&s->dumps, INT64_MAX);
    }
    return rc;
}

static int read_device(struct kernel_log *s, struct psc_error *err)
{
    int64_t mono_us = psc_clock_mono_us();
    s->wall_offset_us = psc_clock_wall_us() - mono_us;
    while (more(s)) {
        char text[RECORD_MAX_BYTES];
        ssize_t n = read(s->file.fd, text, sizeof(text));
        if (n > 0) {
            const char *nl = memchr(text, '\n', (size_t)n);
            take_record(
                s, text_of(text, nl != NULL ? (size_t)(nl - text) : (size_t)n));
        } else if (n == 0 || errno == EAGAIN) {
            kernel_dumps_flush(&s->dumps, mono_us);
            return 0;
        } else if (errno != EPIPE && errno != EINTR && errno != EINVAL) {
            return proc_errno(err, s->file.path, NEEDS);
        }
        /* EPIPE: the next read gives the oldest record there is, whose
         * sequence number tells how many were lost. */
    }
    return 0;
}

static int kernel_log_collect(void *state, struct sample *out,
                              struct psc_error *err)
{
    struct kernel_log *s = state;
    s->out = out;
    s->n_records = 0;
    s->n_events = 0;
    return s->recorded ? read_recorded(s, err) : read_device(s, err);
}

static int position_path(const struct kernel_log *s, const char *suffix,
                         char *out, size_t cap)
{
    int n = snprintf(out, cap, "%s/%s%s", s->state_dir, POSITION_FILE, suffix);
    return n > 0 && (size_t)n < cap ? 0 : PSC_LIMIT;
}

static int write_whole(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -1;
    }
    bool ok = write(fd, text, len) == (ssize_t)len && fdatasync(fd) == 0;
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return ok ? 0 : -1;
}

static int kernel_log_commit(void *state, struct psc_error *err)
{
    struct kernel_log *s = state;
    uint64_t position = kernel_dumps_position(&s->dumps, s->next);
    if (s->state_dir[0] == '\0' || position == s->committed) {
        return 0;
    }
    char path[PROC_PATH_MAX_BYTES + 64];
    char temporary[PROC_PATH_MAX_BYTES + 64];
    char text[80];
    if (position_path(s, "", path, sizeof(path)) != 0 ||
        position_path(s, ".tmp", temporary, sizeof(temporary)) != 0) {
        return psc_error_set(err, PSC_LIMIT, "path too long: %s", s->state_dir);
    }
    int n =
        snprintf(text, sizeof(text), "%s %" PRIu64 "\n", s->boot_id, position);
    if (write_whole(temporary, text, (size_t)n) != 0 ||
        rename(temporary, path) != 0) {
        return psc_error_set(err, PSC_IO, "cannot write %s: %s", path,
                             strerror(errno));
    }
    s->committed = position;
    return 0;
}

/* A position of another boot, or none, means: from the oldest record on. */
static void load_position(struct kernel_log *s)
{
    char path[PROC_PATH_MAX_BYTES + 64];
    char text[80];
    if (s->state_dir[0] == '\0' ||
        position_path(s, "", path, sizeof(path)) != 0) {
        return;
    }
    long n = proc_read_small(AT_FDCWD, path, text, sizeof(text));
    if (n <= 0) {
        return;
    }
    struct text t = text_of(text, (size_t)n);
    uint64_t position;
    if (s->boot_id[0] != '\0' && text_take(&t, s->boot_id) &&
        text_u64(&t, &position)) {
        s->next = position;
        s->committed = position;
        s->resumed = true;
    }
}

/* When the recorded host booted: "btime" of its /proc/stat. */
static int on_stat(void *ctx, struct text line)
{
    struct kernel_log *s = ctx;
    uint64_t v;
    if (text_take(&line, "btime ") && text_u64(&line, &v)) {
        s->wall_offset_us = text_product(v, 1000000);
        return 1;
    }
    return 0;
}

static void prepare(struct kernel_log *s, const struct source_env *env)
{
    struct stat st;
    s->recorded = fstat(s->file.fd, &st) == 0 && S_ISREG(st.st_mode);
    struct proc_file stat;
    if (s->recorded &&
        proc_file_open(&stat, env->root, "/proc/stat", "", NULL) == 0) {
        (void)!proc_file_lines(&stat, on_stat, s, NULL);
        proc_file_close(&stat);
    }
    (void)proc_read_value(env->root, "/proc/sys/kernel/random/boot_id",
                          s->boot_id, sizeof(s->boot_id));
    if (env->state_dir != NULL) {
        (void)snprintf(s->state_dir, sizeof(s->state_dir), "%s",
                       env->state_dir);
    }
    load_position(s);
}

static void kernel_log_close(void *state)
{
    struct kernel_log *s = state;
    proc_file_close(&s->file);
    psc_buf_fini(&s->details);
    free(s);
}

static int kernel_log_open(const struct source_env *env, void **state,
                           struct psc_error *err)
{
    struct kernel_log *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    kernel_dumps_init(&s->dumps, on_event, s);
    s->file.fd = -1;
    psc_buf_init(&s->details, DETAILS_MAX_BYTES);
    int rc = psc_buf_reserve(&s->details, DETAILS_MAX_BYTES);
    if (rc != 0) {
        kernel_log_close(s);
        return psc_error_set(err, rc, "out of memory");
    }
    rc = proc_file_open(&s->file, env->root, "/dev/kmsg", NEEDS, err);
    if (rc != 0) {
        kernel_log_close(s);
        return rc;
    }
    if (fcntl(s->file.fd, F_SETFL, O_NONBLOCK) != 0) {
        rc = proc_errno(err, s->file.path, NEEDS);
        kernel_log_close(s);
        return rc;
    }
    prepare(s, env);
    *state = s;
    return 0;
}

const struct source source_kernel_log = {
    .name = "kernel_log",
    .help = "exhaustion messages from /dev/kmsg (root or CAP_SYSLOG)",
    .group = SOURCE_EVENTS,
    .open = kernel_log_open,
    .collect = kernel_log_collect,
    .commit = kernel_log_commit,
    .close = kernel_log_close,
};
