/* Small parsing helpers for the text that a kernel prints: a cursor over one
 * line that never runs past its end, and the escaping that makes any bytes a
 * canonical tag text. Pure. */
#ifndef PSC_AGENT_TEXT_H
#define PSC_AGENT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/buf.h"

/* The rest of a line. */
struct text {
    const char *at;
    const char *end;
};

static inline struct text text_of(const char *data, size_t len)
{
    struct text t = {data, data + len};
    return t;
}

static inline size_t text_left(const struct text *t)
{
    return (size_t)(t->end - t->at);
}

static inline struct text text_of_buf(const struct psc_buf *b)
{
    return b->len == 0 ? text_of("", 0)
                       : text_of((const char *)b->data, b->len);
}

/* Skip blanks and tabs. */
void text_skip_blanks(struct text *t);

/* Take the next word (blanks separate words). False at the end. */
bool text_word(struct text *t, struct text *word);

/* Take the decimal number that begins here, after blanks. False, with the
 * cursor where it was, if there is none or it does not fit. */
bool text_u64(struct text *t, uint64_t *value);

/* Step over @literal if the text begins with it. */
static inline bool text_take(struct text *t, const char *literal)
{
    size_t n = strlen(literal);
    if (text_left(t) < n || memcmp(t->at, literal, n) != 0) {
        return false;
    }
    t->at += n;
    return true;
}

/* Take all up to @literal and step over that. False, with the cursor where it
 * was, if it does not occur. */
bool text_until(struct text *t, const char *literal, struct text *before);

static inline bool text_equal(const struct text *t, const char *literal)
{
    size_t n = strlen(literal); /* known when it is compiled, for a literal */
    return text_left(t) == n && memcmp(t->at, literal, n) == 0;
}

bool text_ends(const struct text *t, const char *literal);

/* A number to an int64_t, at most its maximum. */
int64_t text_clamp(uint64_t value);

/* The product of two, at most INT64_MAX. */
int64_t text_product(uint64_t a, uint64_t b);

/* Called with each line, without its end. Non-zero stops the walk. */
typedef int (*text_line_fn)(void *ctx, struct text line);

/* Walk the lines of a text. Returns what stopped it, or 0. */
int text_lines(struct text all, text_line_fn on_line, void *ctx);

/* A text under construction in caller's memory; what does not fit is cut off
 * (an escape never in its middle). */
struct text_out {
    char *data;
    size_t len;
    size_t cap;
};

/* Append as it is. */
void text_put(struct text_out *out, struct text in);
void text_puts(struct text_out *out, const char *literal);
void text_put_u64(struct text_out *out, uint64_t value);

/* Append with bytes outside 0x20-0x7E and the backslash as \xHH. */
void text_put_escaped(struct text_out *out, struct text in);

/* Append a JSON string with its quotes; bytes outside ASCII as in
 * text_put_escaped(). */
void text_put_json(struct psc_buf *out, struct text in);

#endif
