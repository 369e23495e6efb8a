/* Error codes and explained errors.
 *
 * A fallible function returns 0 or one of enum psc_code and is marked
 * PSC_MUST_CHECK. One whose failure a person must understand also takes a
 * caller-owned struct psc_error and fills it; each layer may prefix it. */
#ifndef PSC_COMMON_ERROR_H
#define PSC_COMMON_ERROR_H

#define PSC_MUST_CHECK        __attribute__((warn_unused_result))
#define PSC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#define PSC_CODES(X)                                                           \
    X(PSC_OK, "success")                                                       \
    X(PSC_NOMEM, "out of memory")                                              \
    X(PSC_IO, "input/output error")                                            \
    X(PSC_FORMAT, "malformed data")                                            \
    X(PSC_LIMIT, "limit exceeded")                                             \
    X(PSC_MISSING, "not found")                                                \
    X(PSC_PERMISSION, "permission denied")                                     \
    X(PSC_CONFIG, "bad configuration")                                         \
    X(PSC_CONNECTION, "connection failed")                                     \
    X(PSC_TLS, "TLS failure")                                                  \
    X(PSC_TIMEOUT, "timed out")                                                \
    X(PSC_REFUSED, "refused by the peer")                                      \
    X(PSC_NEED_KEYFRAME, "a keyframe is needed")                               \
    X(PSC_DATABASE, "database error")                                          \
    X(PSC_UNSUPPORTED, "not supported here")                                   \
    X(PSC_CLOSED, "closed")

enum psc_code {
#define PSC_CODE_ENUM(code, text) code,
    PSC_CODES(PSC_CODE_ENUM)
#undef PSC_CODE_ENUM
};

struct psc_error {
    int code;      /* enum psc_code of the last psc_error_set() */
    char msg[256]; /* what was wrong, where, and what to do */
};

/* The fixed text of a code. Never NULL. */
const char *psc_strerror(int code);

/* Fill @err (may be NULL) with @code and a printf-style message, of which
 * several lines become one, with "; " between them.
 * Returns @code, so that callers can write "return psc_error_set(...)". */
int psc_error_set(struct psc_error *err, int code, const char *fmt, ...)
    PSC_PRINTF(3, 4);

/* Put "<text>: " before the message of @err (may be NULL), cutting its end
 * if it no longer fits. Returns @err's code, or PSC_IO if @err is NULL. */
int psc_error_prefix(struct psc_error *err, const char *fmt, ...)
    PSC_PRINTF(2, 3);

#endif
