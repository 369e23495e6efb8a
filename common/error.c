/* Error texts and explained errors. */
#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *psc_strerror(int code)
{
    switch (code) {
#define PSC_CODE_TEXT(name, text)                                              \
    case name: return text;
        PSC_CODES(PSC_CODE_TEXT)
#undef PSC_CODE_TEXT
    default: return "unknown error";
    }
}

/* Make one line of @text: libpq, for one, explains itself in several. */
static void join_lines(char *text)
{
    char *out = text;
    for (const char *at = text; *at != '\0';) {
        if (*at != '\n') {
            *out++ = *at++;
            continue;
        }
        at += strspn(at, " \t\r\n");
        if (*at != '\0') {
            *out++ = ';';
            *out++ = ' ';
        }
    }
    *out = '\0';
}

int psc_error_set(struct psc_error *err, int code, const char *fmt, ...)
{
    if (err == NULL) {
        return code;
    }
    err->code = code;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err->msg, sizeof(err->msg), fmt, args);
    va_end(args);
    join_lines(err->msg);
    return code;
}

int psc_error_prefix(struct psc_error *err, const char *fmt, ...)
{
    if (err == NULL) {
        return PSC_IO;
    }
    char old[sizeof(err->msg)];
    memcpy(old, err->msg, sizeof(old));

    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(err->msg, sizeof(err->msg), fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->msg)) {
        size_t left = sizeof(err->msg) - (size_t)n;
        if (snprintf(err->msg + n, left, ": %s", old) < 0) {
            err->msg[n] = '\0';
        }
    }
    return err->code;
}
