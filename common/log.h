/* One line per state change, to standard error: with "<N>" priorities for
 * systemd's journal, with UTC time and level in a file, with time of day and
 * colours on a terminal.
 *
 * Thread-safe: each line is one write(). */
#ifndef PSC_COMMON_LOG_H
#define PSC_COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

enum psc_log_level {
    PSC_LOG_ERROR,
    PSC_LOG_WARN,
    PSC_LOG_INFO,
    PSC_LOG_DEBUG,
};

/* Set the program's name and the most verbose level that is printed. */
void psc_log_init(const char *program, enum psc_log_level level);

/* Parse "error", "warn", "info" or "debug". Returns false for other text. */
bool psc_log_level_parse(const char *text, enum psc_log_level *level);

bool psc_log_enabled(enum psc_log_level level);

/* Print one line; control bytes in it are shown as \xHH. */
void psc_log(enum psc_log_level level, const char *fmt, ...) PSC_PRINTF(2, 3);

#define psc_log_error(...) psc_log(PSC_LOG_ERROR, __VA_ARGS__)
#define psc_log_warn(...)  psc_log(PSC_LOG_WARN, __VA_ARGS__)
#define psc_log_info(...)  psc_log(PSC_LOG_INFO, __VA_ARGS__)
#define psc_log_debug(...)                                                     \
    do {                                                                       \
        if (psc_log_enabled(PSC_LOG_DEBUG)) {                                  \
            psc_log(PSC_LOG_DEBUG, __VA_ARGS__);                               \
        }                                                                      \
    } while (0)

/* Lets a message pass at most once per interval and counts the others. */
struct psc_log_limit {
    int64_t next_us;     /* monotonic time before which nothing passes */
    uint64_t suppressed; /* messages since the last one that passed */
};

/* Returns true if a message may be printed at @now_us (monotonic); then
 * *@suppressed says how many were swallowed since the last one. */
bool psc_log_limit_pass(struct psc_log_limit *l, int64_t now_us,
                        int64_t interval_us, uint64_t *suppressed);

#endif
