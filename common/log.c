/* Log lines to standard error, one write() each. */
#include "common/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "common/clock.h"

enum { LINE_MAX_BYTES = 1024 };

static struct {
    const char *program;
    atomic_int level;
    bool terminal;
    bool journal; /* systemd reads us and adds the time itself */
    bool colour;
} state = {.program = "poolscope", .level = PSC_LOG_INFO};

static const struct {
    const char *name;
    int priority; /* of syslog, as systemd reads it */
    const char *colour;
} levels[] = {
    [PSC_LOG_ERROR] = {"error", 3, "\033[31m"},
    [PSC_LOG_WARN] = {"warn", 4, "\033[33m"},
    [PSC_LOG_INFO] = {"info", 6, ""},
    [PSC_LOG_DEBUG] = {"debug", 7, "\033[2m"},
};

void psc_log_init(const char *program, enum psc_log_level level)
{
    state.program = program;
    atomic_store(&state.level, (int)level);
    state.terminal = uv_guess_handle(2) == UV_TTY;
    state.journal = getenv("JOURNAL_STREAM") != NULL;
    state.colour = state.terminal && getenv("NO_COLOR") == NULL;
}

bool psc_log_level_parse(const char *text, enum psc_log_level *level)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(text, levels[i].name) == 0) {
            *level = (enum psc_log_level)i;
            return true;
        }
    }
    return false;
}

bool psc_log_enabled(enum psc_log_level level)
{
    return (int)level <= atomic_load(&state.level);
}

/* Copy @text with control bytes made visible, so that nobody's data can forge
 * a line or drive a terminal. Returns the bytes written, at most @cap. */
static size_t put_clean(char *out, size_t cap, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool control = c < 0x20 || c == 0x7f;
        if (n + (control ? 4 : 1) > cap) {
            break;
        }
        if (control) {
            out[n++] = '\\';
            out[n++] = 'x';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        } else {
            out[n++] = (char)c;
        }
    }
    return n;
}

static void put_time(char *out, size_t cap, const char *format)
{
    time_t now = (time_t)(psc_clock_wall_us() / PSC_US_PER_S);
    struct tm tm;
#ifdef _WIN32
    bool known = gmtime_s(&tm, &now) == 0;
#else
    bool known = gmtime_r(&now, &tm) != NULL;
#endif
    if (!known || strftime(out, cap, format, &tm) == 0) {
        out[0] = '\0';
    }
}

static size_t put_head(char *out, size_t cap, enum psc_log_level level)
{
    char clock[32];
    int n;
    if (state.terminal) {
        put_time(clock, sizeof(clock), "%H:%M:%SZ");
        n = snprintf(out, cap, "%s %s%s: ", clock,
                     state.colour ? levels[level].colour : "", state.program);
    } else if (state.journal) {
        n = snprintf(out, cap, "<%d>%s: ", levels[level].priority,
                     state.program);
    } else {
        put_time(clock, sizeof(clock), "%Y-%m-%dT%H:%M:%SZ");
        n = snprintf(out, cap, "%s %s: %s: ", clock, state.program,
                     levels[level].name);
    }
    return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}

void psc_log(enum psc_log_level level, const char *fmt, ...)
{
    if (!psc_log_enabled(level)) {
        return;
    }
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    char line[LINE_MAX_BYTES + 128];
    size_t n = put_head(line, 96, level);
    n += put_clean(line + n, sizeof(line) - n - 8, text);
    if (state.colour && levels[level].colour[0] != '\0') {
        static const char plain[] = {'\033', '[', '0', 'm'};
        memcpy(line + n, plain, sizeof(plain));
        n += sizeof(plain);
    }
    line[n++] = '\n';

    uv_fs_t req;
    uv_buf_t buf = uv_buf_init(line, (unsigned)n);
    (void)uv_fs_write(NULL, &req, 2, &buf, 1, -1, NULL);
    uv_fs_req_cleanup(&req);
}

bool psc_log_limit_pass(struct psc_log_limit *l, int64_t now_us,
                        int64_t interval_us, uint64_t *suppressed)
{
    if (now_us < l->next_us) {
        l->suppressed++;
        return false;
    }
    *suppressed = l->suppressed;
    l->suppressed = 0;
    l->next_us = now_us + interval_us;
    return true;
}
