/* Starting and stopping the spool.
 *
 * Happy path: lock the folder, read the state file, scan every segment
 * (spool_scan.c), begin a new stream. What can fail: another agent holds the
 * lock (PSC_REFUSED), memory. A disk that does not work is reported by
 * spool_trouble() instead. */
#include "agent/spool_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/platform.h"
#include "common/file.h"
#include "common/log.h"

enum { STATE_MAX_BYTES = 512 };

static const char state_magic[] = "poolscope-spool 1\n";

static void state_path(const struct spool *s, char out[SPOOL_PATH_BYTES])
{
    (void)snprintf(out, SPOOL_PATH_BYTES, "%s/state", s->dir);
}

/* The number behind "<label> " in the state's text; false if there is none. */
static bool state_number(const char *text, const char *label, uint64_t *value)
{
    const char *at = strstr(text, label);
    char *end = NULL;
    if (at == NULL) {
        return false;
    }
    at += strlen(label);
    *value = strtoull(at, &end, 10);
    return end != at && *end == '\n';
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

static bool state_stream(const char *text, uint8_t out[SPOOL_STREAM_BYTES])
{
    static const char label[] = "\nstream ";
    const char *at = strstr(text, label);
    if (at == NULL) {
        return false;
    }
    at += sizeof(label) - 1;
    for (unsigned i = 0; i < SPOOL_STREAM_BYTES; i++) {
        int high = hex_digit(*at);
        int low = high < 0 ? -1 : hex_digit(at[1]);
        if (low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    return *at == '\n';
}

static void parse_state(struct spool *s, const char *text)
{
    uint64_t dropped, acked;
    uint8_t stream[SPOOL_STREAM_BYTES];
    if (strncmp(text, state_magic, sizeof(state_magic) - 1) == 0 &&
        state_number(text, "\ndropped ", &dropped) &&
        state_number(text, "\nacked ", &acked) && state_stream(text, stream)) {
        s->dropped = dropped;
        s->acked = acked;
        memcpy(s->acked_stream, stream, sizeof(stream));
    } else {
        psc_log_warn("spool %s: its state file is damaged", s->dir);
    }
}

static void load_state(struct spool *s)
{
    char path[SPOOL_PATH_BYTES];
    state_path(s, path);
    struct psc_buf text;
    psc_buf_init(&text, STATE_MAX_BYTES);
    struct psc_error err;
    if (psc_file_read(path, &text, &err) == PSC_OK) {
        psc_buf_u8(&text, '\0');
        parse_state(s, psc_buf_error(&text) == PSC_OK ? (char *)text.data : "");
    }
    psc_buf_fini(&text);
}

void spool_save_state(struct spool *s)
{
    char hex[2 * SPOOL_STREAM_BYTES + 1];
    for (unsigned i = 0; i < SPOOL_STREAM_BYTES; i++) {
        (void)snprintf(hex + (size_t)2 * i, 3, "%02x", s->acked_stream[i]);
    }
    char text[STATE_MAX_BYTES];
    int n = snprintf(text, sizeof(text),
                     "%sdropped %" PRIu64 "\nacked %" PRIu64 "\nstream %s\n",
                     state_magic, s->dropped, s->acked, hex);
    char path[SPOOL_PATH_BYTES];
    state_path(s, path);
    struct psc_bytes bytes = {(const uint8_t *)text, (size_t)n};
    s->state_dirty = s->o.fs->save(s->o.fs_user, path, bytes) != 0;
}

/* --- start and stop --- */

static void drop_memory(struct spool *s)
{
    if (s->n_memory > 0) {
        uint64_t acked = spool_acked(s, s->stream);
        uint64_t pending = s->last_seq > acked ? s->last_seq - acked : 0;
        s->dropped += pending < s->n_memory ? pending : s->n_memory;
        s->state_dirty = true;
        spool_consume_memory(s, s->memory.len);
        s->n_memory = 0;
        s->memory_since_roll = 0;
    }
}

void spool_new_stream(struct spool *s)
{
    spool_seal(s);
    drop_memory(s);
    if (uv_random(NULL, NULL, s->stream, sizeof(s->stream), 0, NULL) != 0) {
        /* No entropy: clock bits still tell streams apart. */
        uint64_t now = uv_hrtime();
        memcpy(s->stream, &now, sizeof(now));
        s->stream[SPOOL_STREAM_BYTES - 1] ^= 1;
    }
    s->last_seq = 0;
    s->need_roll = true;
    s->state_dirty = true;
}

static int lock_folder(struct spool *s, struct psc_error *err)
{
    char path[SPOOL_PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/lock", s->dir);
    struct psc_error why;
    int rc = platform_lock(path, &s->lock, &why);
    if (rc == PSC_REFUSED) {
        return psc_error_set(err, rc, "%s", why.msg);
    }
    if (rc != PSC_OK) {
        psc_log_warn("spool: %s", why.msg);
        s->lock = -1;
    }
    return PSC_OK;
}

int spool_open(struct spool *s, const struct spool_options *o,
               struct psc_error *err)
{
    memset(s, 0, sizeof(*s));
    s->o = *o;
    s->fd = -1;
    s->lock = -1;
    s->hour = INT64_MIN;
    psc_buf_init(&s->memory, o->memory_bytes + SPOOL_PAYLOAD_MAX_BYTES +
                                 SPOOL_RECORD_BYTES);
    int n = snprintf(s->dir, sizeof(s->dir), "%s", o->dir);
    if (n < 0 || (size_t)n >= sizeof(s->dir)) {
        return psc_error_set(err, PSC_LIMIT, "spool: %s: path is too long",
                             o->dir);
    }
    int rc = lock_folder(s, err);
    if (rc != PSC_OK) {
        return rc;
    }
    load_state(s);
    rc = spool_scan(s);
    if (rc != PSC_OK) {
        spool_close(s);
        return psc_error_set(err, rc, "spool %s: %s", s->dir, psc_strerror(rc));
    }
    spool_new_stream(s);
    return PSC_OK;
}

void spool_close(struct spool *s)
{
    if (s->n_memory > 0) {
        spool_flush_memory(s);
    }
    drop_memory(s); /* what still finds no room on the disk */
    spool_seal(s);
    if (s->state_dirty && s->lock >= 0) {
        spool_save_state(s);
    }
    if (s->lock >= 0) {
        platform_unlock(s->lock);
        s->lock = -1;
    }
    psc_buf_fini(&s->memory);
    free(s->segments);
    s->segments = NULL;
    s->n_segments = 0;
    s->cap_segments = 0;
}
