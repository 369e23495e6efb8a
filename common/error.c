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

/* Copy @text as one line: libpq, for one, explains itself in several. */
static void join_lines(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    while (*text != '\0' && n + 1 < cap) {
        if (*text != '\n') {
            out[n++] = *text++;
            continue;
        }
        text += strspn(text, " \t\r\n");
        if (*text != '\0' && n + 2 < cap) {
            out[n++] = ';';
            out[n++] = ' ';
        }
    }
    out[n] = '\0';
}

int psc_error_set(struct psc_error *err, int code, const char *fmt, ...)
{
    if (err == NULL) {
        return code;
    }
    char text[sizeof(err->msg)];
    err->code = code;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    join_lines(err->msg, sizeof(err->msg), text);
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
