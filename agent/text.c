/* Parsing helpers: see text.h. Loops over bytes walk by a pointer of their own:
 * a read through t->at may alias t->at itself, so that the compiler would have
 * to store it at every step. */
#include "agent/text.h"

#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

void text_skip_blanks(struct text *t)
{
    const char *at = t->at;
    const char *end = t->end;
    while (at < end && blank(*at)) {
        at++;
    }
    t->at = at;
}

bool text_word(struct text *t, struct text *word)
{
    text_skip_blanks(t);
    const char *at = t->at;
    const char *end = t->end;
    word->at = at;
    while (at < end && !blank(*at)) {
        at++;
    }
    word->end = at;
    t->at = at;
    return word->at < at;
}

bool text_u64(struct text *t, uint64_t *value)
{
    const char *at = t->at;
    const char *end = t->end;
    while (at < end && blank(*at)) {
        at++;
    }
    const char *digits = at;
    uint64_t v = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (v > (UINT64_MAX - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    if (at == digits) {
        return false;
    }
    t->at = at;
    *value = v;
    return true;
}

bool text_until(struct text *t, const char *literal, struct text *before)
{
    size_t n = strlen(literal);
    const char *at = t->at;
    while ((size_t)(t->end - at) >= n) {
        at = memchr(at, literal[0], (size_t)(t->end - at) - n + 1);
        if (at == NULL) {
            return false;
        }
        if (memcmp(at, literal, n) == 0) {
            before->at = t->at;
            before->end = at;
            t->at = at + n;
            return true;
        }
        at++;
    }
    return false;
}

bool text_ends(const struct text *t, const char *literal)
{
    size_t n = strlen(literal);
    return text_left(t) >= n && memcmp(t->end - n, literal, n) == 0;
}

int64_t text_clamp(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

int64_t text_product(uint64_t a, uint64_t b)
{
    if (b != 0 && a > (uint64_t)INT64_MAX / b) {
        return INT64_MAX;
    }
    return (int64_t)(a * b);
}

int text_lines(struct text all, text_line_fn on_line, void *ctx)
{
    while (all.at < all.end) {
        const char *nl = memchr(all.at, '\n', text_left(&all));
        struct text line = {all.at, nl != NULL ? nl : all.end};
        int rc = on_line(ctx, line);
        if (rc != 0) {
            return rc;
        }
        all.at = nl != NULL ? nl + 1 : all.end;
    }
    return 0;
}

void text_put(struct text_out *out, struct text in)
{
    size_t n = text_left(&in);
    if (n > out->cap - out->len) {
        n = out->cap - out->len;
    }
    if (n > 0) {
        memcpy(out->data + out->len, in.at, n);
    }
    out->len += n;
}

void text_puts(struct text_out *out, const char *literal)
{
    text_put(out, text_of(literal, strlen(literal)));
}

void text_put_u64(struct text_out *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    text_put(out, text_of(digits + at, sizeof(digits) - at));
}

static bool plain(unsigned char c)
{
    return c >= 0x20 && c <= 0x7E && c != '\\';
}

static const char HEX[] = "0123456789ABCDEF";

void text_put_escaped(struct text_out *out, struct text in)
{
    for (; in.at < in.end; in.at++) {
        const char *run = in.at;
        while (in.at < in.end && plain((unsigned char)*in.at)) {
            in.at++;
        }
        if (in.at > run) {
            text_put(out, text_of(run, (size_t)(in.at - run)));
        }
        if (in.at == in.end) {
            return;
        }
        unsigned char c = (unsigned char)*in.at;
        if (out->cap - out->len < 4) {
            return;
        }
        const char escape[4] = {'\\', 'x', HEX[c >> 4], HEX[c & 15]};
        memcpy(out->data + out->len, escape, sizeof(escape));
        out->len += sizeof(escape);
    }
}

void text_put_json(struct psc_buf *out, struct text in)
{
    psc_buf_u8(out, '"');
    for (; in.at < in.end; in.at++) {
        unsigned char c = (unsigned char)*in.at;
        if (c == '"' || c == '\\') {
            const unsigned char escape[2] = {'\\', c};
            psc_buf_append(out, escape, sizeof(escape));
        } else if (plain(c)) {
            psc_buf_u8(out, c);
        } else if (c < 0x20 || c == 0x7F) {
            psc_buf_printf(out, "\\u%04x", c);
        } else {
            psc_buf_printf(out, "\\\\x%02X", c);
        }
    }
    psc_buf_u8(out, '"');
}
