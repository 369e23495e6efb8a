/* Peers' bytes into texts, JSON and numbers that the database takes. */
#include "collector/sanitise.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/table.h"

#define US_PER_DAY (86400 * PSC_US_PER_S)

enum {
    JSON_DEPTH_MAX = 32,
    JSON_MAX_BYTES = 16384,
    COUNTER_NAME_MAX_BYTES = 128,
};

static const char hex_digits[] = "0123456789ABCDEF";

static void put_hex(struct psc_buf *out, uint8_t byte)
{
    uint8_t text[4] = {'\\', 'x', (uint8_t)hex_digits[byte >> 4],
                       (uint8_t)hex_digits[byte & 15]};
    psc_buf_append(out, text, sizeof(text));
}

static bool is_upper_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
}

bool sanitise_tag_text(struct psc_bytes text, struct psc_buf *out)
{
    bool canonical = true;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        bool escape =
            c == '\\' && i + 3 < text.len && text.data[i + 1] == 'x' &&
            is_upper_hex(text.data[i + 2]) && is_upper_hex(text.data[i + 3]);
        if (escape || (c >= 0x20 && c <= 0x7e && c != '\\')) {
            psc_buf_u8(out, c);
        } else {
            put_hex(out, c);
            canonical = false;
        }
    }
    return canonical;
}

/* Bytes of the valid UTF-8 character at the start of @s, or 0. */
static size_t utf8_length(const uint8_t *s, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80             ? 1
               : (s[0] & 0xe0) == 0xc0 ? 2
               : (s[0] & 0xf0) == 0xe0 ? 3
               : (s[0] & 0xf8) == 0xf0 ? 4
                                       : 0;
    if (n <= 1 || n > left) {
        return n == 1 ? 1 : 0;
    }
    uint32_t c = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (s[i] & 0x3fu);
    }
    bool surrogate = c >= 0xd800 && c <= 0xdfff;
    return c < least[n] || c > 0x10ffff || surrogate ? 0 : n;
}

/* Length of the character at the start of @s if it may stand in a text. */
static size_t clean_length(const uint8_t *s, size_t left)
{
    size_t n = utf8_length(s, left);
    bool control = n == 1 && (s[0] < 0x20 || s[0] == 0x7f);
    bool c1 = n == 2 && s[0] == 0xc2 && s[1] < 0xa0;
    return control || c1 ? 0 : n;
}

bool sanitise_text(struct psc_bytes text, struct psc_buf *out)
{
    bool clean = true;
    for (size_t i = 0; i < text.len;) {
        size_t n = clean_length(text.data + i, text.len - i);
        if (n > 0) {
            psc_buf_append(out, text.data + i, n);
            i += n;
        } else {
            put_hex(out, text.data[i++]);
            clean = false;
        }
    }
    return clean;
}

bool sanitise_tag_key(struct psc_bytes key, struct psc_buf *out)
{
    if (key.len < 2 || key.data[0] < POOL_PAGED || key.data[0] > POOL_PAGES) {
        return false;
    }
    struct psc_bytes text = {key.data + 1, key.len - 1};
    psc_buf_u8(out, key.data[0]);
    (void)sanitise_tag_text(text, out);
    return true;
}

bool sanitise_counter_key(struct psc_bytes key, struct psc_buf *out)
{
    const uint8_t *end = memchr(key.data, '\0', key.len);
    if (end == NULL || end == key.data) {
        return false;
    }
    struct psc_bytes name = {key.data, (size_t)(end - key.data)};
    struct psc_bytes instance = {end + 1, key.len - name.len - 1};
    if (name.len > COUNTER_NAME_MAX_BYTES) {
        return false;
    }
    (void)sanitise_tag_text(name, out);
    psc_buf_u8(out, '\0');
    (void)sanitise_text(instance, out);
    return true;
}

void sanitise_json_string(struct psc_buf *out, struct psc_bytes text,
                          size_t max_bytes)
{
    static const uint8_t replacement[] = {0xef, 0xbf, 0xbd}; /* U+FFFD */
    size_t len = text.len < max_bytes ? text.len : max_bytes;
    psc_buf_u8(out, '"');
    for (size_t i = 0; i < len;) {
        size_t n = clean_length(text.data + i, len - i);
        uint8_t c = text.data[i];
        if (n > 0) {
            if (c == '"' || c == '\\') {
                psc_buf_u8(out, '\\');
            }
            psc_buf_append(out, text.data + i, n);
            i += n;
            continue;
        }
        if (c < 0x20 || c == 0x7f) {
            psc_buf_u8(out, ' ');
        } else {
            psc_buf_append(out, replacement, sizeof(replacement));
        }
        i++;
    }
    psc_buf_u8(out, '"');
}

/* Whether brackets nest too deeply, those in strings counted too: parsers go
 * down once per bracket, PostgreSQL's as well. */
static bool nests_deeply(struct psc_bytes text)
{
    int depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
        if (depth > JSON_DEPTH_MAX) {
            return true;
        }
    }
    return false;
}

/* The object in @text, written anew, or NULL; jansson refuses what PostgreSQL
 * does: bad UTF-8, NULs, numbers without bound. */
static char *rewrite_object(struct psc_bytes text)
{
    if (text.len > JSON_MAX_BYTES || nests_deeply(text)) {
        return NULL;
    }
    json_t *json = json_loadb((const char *)text.data, text.len, 0, NULL);
    char *written = json_is_object(json)
                        ? json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII)
                        : NULL;
    json_decref(json);
    return written;
}

void sanitise_json_object(struct psc_buf *out, struct psc_bytes text)
{
    static const char key[] = "{\"text\":";
    if (text.len == 0) {
        psc_buf_append(out, "{}", 2);
        return;
    }
    char *object = rewrite_object(text);
    if (object != NULL) {
        psc_buf_append(out, object, strlen(object));
        free(object);
        return;
    }
    psc_buf_append(out, key, sizeof(key) - 1);
    sanitise_json_string(out, text, JSON_MAX_BYTES);
    psc_buf_u8(out, '}');
}

static int64_t clamp(int64_t v, int64_t min, int64_t max)
{
    return v < min ? min : v > max ? max : v;
}

/* Where outstanding follows from allocs and frees, frees give way. */
void sanitise_tag_row(uint8_t flags, int64_t *row)
{
    const unsigned derived = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING;
    if ((flags & ENTRY_REAL) != 0) {
        return;
    }
    row[COL_ALLOCS] = clamp(row[COL_ALLOCS], 0, SANITISE_COUNT_MAX);
    row[COL_FREES] = clamp(row[COL_FREES], 0, SANITISE_COUNT_MAX);
    row[COL_BYTES] = clamp(row[COL_BYTES], 0, SANITISE_BYTES_MAX);
    row[COL_OUTSTANDING] = clamp(row[COL_OUTSTANDING], 0, SANITISE_BYTES_MAX);
    if ((flags & derived) == derived) {
        int64_t least = row[COL_ALLOCS] - SANITISE_BYTES_MAX;
        row[COL_FREES] = clamp(row[COL_FREES], least, row[COL_ALLOCS]);
        row[COL_OUTSTANDING] = row[COL_ALLOCS] - row[COL_FREES];
    }
}

void sanitise_counter_row(uint8_t flags, int64_t *row)
{
    if ((flags & ENTRY_REAL) == 0) {
        row[0] = clamp(row[0], -STORED_VALUE_MAX, STORED_VALUE_MAX);
    }
}

bool sanitise_is_time(int64_t at_us, int64_t now_us)
{
    return at_us >= PSC_YEAR_2000_US && at_us <= now_us + US_PER_DAY;
}
