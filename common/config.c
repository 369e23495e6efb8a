/* The option table at work: INI files by inih, the command line, and help. */
#include "common/config.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/file.h"

enum { FILE_MAX_BYTES = 1024 * 1024, NAME_MAX_BYTES = 64, ERRORS_MAX = 20 };

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit durations[] = {
    {"us", 1},
    {"ms", PSC_US_PER_MS},
    {"s", PSC_US_PER_S},
    {"m", 60 * PSC_US_PER_S},
    {"h", 3600 * PSC_US_PER_S},
    {"d", 86400 * PSC_US_PER_S},
    {NULL, 0},
};

static const struct unit sizes[] = {
    {"", 1},          {"K", 1LL << 10}, {"M", 1LL << 20},
    {"G", 1LL << 30}, {"T", 1LL << 40}, {NULL, 0},
};

/* "<digits><unit>" with one of @units; no sign, no fraction. */
static int parse_unit(const char *text, const struct unit *units, int64_t *out)
{
    if (*text < '0' || *text > '9') {
        return PSC_FORMAT;
    }
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0) {
        return PSC_LIMIT;
    }
    for (; units->name != NULL; units++) {
        if (strcmp(end, units->name) == 0) {
            return __builtin_mul_overflow(v, units->factor, out) ? PSC_LIMIT
                                                                 : PSC_OK;
        }
    }
    return PSC_FORMAT;
}

int psc_duration_parse(const char *text, int64_t *us)
{
    return parse_unit(text, durations, us);
}

int psc_size_parse(const char *text, int64_t *bytes)
{
    return parse_unit(text, sizes, bytes);
}

static int parse_int(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0') {
        return PSC_FORMAT;
    }
    *out = v;
    return errno != 0 ? PSC_LIMIT : PSC_OK;
}

static int parse_bool(const char *text, bool *out)
{
    static const char *const words[] = {"no",  "yes", "false", "true",
                                        "off", "on",  "0",     "1"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return PSC_OK;
        }
    }
    return PSC_FORMAT;
}

static const char *expected(enum psc_option_type type)
{
    switch (type) {
    case PSC_OPT_BOOL: return "yes or no";
    case PSC_OPT_INT: return "a whole number";
    case PSC_OPT_SIZE: return "bytes such as 4096, 512K, 64M or 1G";
    case PSC_OPT_DURATION: return "a time such as 200ms, 10s, 5m, 1h or 2d";
    case PSC_OPT_STRING: break;
    }
    return "text";
}

/* Print a number as its option type writes it, with the largest unit that
 * divides it. */
static void format_number(enum psc_option_type type, int64_t v, char *out,
                          size_t cap)
{
    const struct unit *units = type == PSC_OPT_DURATION ? durations : sizes;
    const struct unit *best = &units[0];
    if (type != PSC_OPT_INT && v != 0) {
        for (const struct unit *u = units; u->name != NULL; u++) {
            if (v % u->factor == 0) {
                best = u;
            }
        }
    }
    if (type == PSC_OPT_DURATION && v == 0) {
        best = &durations[2];
    }
    (void)snprintf(out, cap, "%" PRId64 "%s", v / best->factor,
                   type == PSC_OPT_INT ? "" : best->name);
}

/* In messages @label stands for the option and where it was given. */
static int set_number(const struct psc_option *o, int64_t *field,
                      const char *value, const char *label,
                      struct psc_error *err)
{
    int64_t v = 0;
    int rc = o->type == PSC_OPT_INT    ? parse_int(value, &v)
             : o->type == PSC_OPT_SIZE ? psc_size_parse(value, &v)
                                       : psc_duration_parse(value, &v);
    if (rc != PSC_OK) {
        return psc_error_set(err, PSC_CONFIG, "%s = %s: expected %s", label,
                             value, expected(o->type));
    }
    if ((o->min != 0 || o->max != 0) && (v < o->min || v > o->max)) {
        char min[32], max[32];
        format_number(o->type, o->min, min, sizeof(min));
        format_number(o->type, o->max, max, sizeof(max));
        return psc_error_set(err, PSC_CONFIG, "%s = %s: must be from %s to %s",
                             label, value, min, max);
    }
    *field = v;
    return PSC_OK;
}

static int set_option(const struct psc_option *o, void *conf, const char *value,
                      const char *label, struct psc_error *err)
{
    void *field = (char *)conf + o->offset;
    if (o->type == PSC_OPT_STRING) {
        char *copy = strdup(value);
        if (copy == NULL) {
            return psc_error_set(err, PSC_NOMEM, "%s: out of memory", label);
        }
        char **slot = field;
        free(*slot);
        *slot = copy;
        return PSC_OK;
    }
    if (o->type == PSC_OPT_BOOL) {
        if (parse_bool(value, field) != PSC_OK) {
            return psc_error_set(err, PSC_CONFIG, "%s = %s: expected %s", label,
                                 value, expected(o->type));
        }
        return PSC_OK;
    }
    return set_number(o, field, value, label, err);
}

int psc_config_defaults(const struct psc_option *options, void *conf,
                        struct psc_error *err)
{
    for (const struct psc_option *o = options; o->name != NULL; o++) {
        if (o->def != NULL) {
            int rc = set_option(o, conf, o->def, o->name, err);
            if (rc != PSC_OK) {
                return rc;
            }
        }
    }
    return PSC_OK;
}

void psc_config_fini(const struct psc_option *options, void *conf)
{
    for (const struct psc_option *o = options; o->name != NULL; o++) {
        if (o->type == PSC_OPT_STRING) {
            char **slot = (void *)((char *)conf + o->offset);
            free(*slot);
            *slot = NULL;
        }
    }
}

/* Levenshtein distance of two short names, for "did you mean". */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1];
    size_t len = strlen(b);
    if (len > NAME_MAX_BYTES) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[len];
}

static int unknown_name(const struct psc_option *options, const char *section,
                        const char *name, const char *where,
                        struct psc_error *err)
{
    const struct psc_option *nearest = options;
    size_t nearest_distance = SIZE_MAX;
    for (const struct psc_option *o = options; o->name != NULL; o++) {
        size_t d = distance(name, o->name);
        if (d < nearest_distance) {
            nearest = o;
            nearest_distance = d;
        }
    }
    return psc_error_set(err, PSC_CONFIG,
                         "%s: unknown option %.*s in section [%.*s]; the "
                         "nearest is %s in [%s]",
                         where, NAME_MAX_BYTES, name, NAME_MAX_BYTES, section,
                         nearest->name, nearest->section);
}

static const struct psc_option *find(const struct psc_option *options,
                                     const char *section, const char *name)
{
    const struct psc_option *o = options;
    while (o->name != NULL &&
           (strcmp(o->name, name) != 0 ||
            (section != NULL && strcmp(o->section, section) != 0))) {
        o++;
    }
    return o->name != NULL ? o : NULL;
}

int psc_config_set(const struct psc_option *options, void *conf,
                   const char *section, const char *name, const char *value,
                   const char *where, struct psc_error *err)
{
    const struct psc_option *o = find(options, section, name);
    if (o == NULL) {
        return unknown_name(options, section, name, where, err);
    }
    char label[400];
    (void)snprintf(label, sizeof(label), "%.300s: %s", where, name);
    return set_option(o, conf, value, label, err);
}

/* --- where values came from --- */

static struct psc_config_places *places_of(const struct psc_option *options,
                                           void *conf)
{
    const struct psc_option *o = options;
    while (o->name != NULL) {
        o++;
    }
    assert(o - options <= PSC_CONFIG_OPTIONS_MAX);
    return o->offset == 0 ? NULL : (void *)((char *)conf + o->offset);
}

static const struct psc_config_places *const_places_of(
    const struct psc_option *options, const void *conf)
{
    return places_of(options, (void *)(uintptr_t)conf);
}

bool psc_config_is_given(const struct psc_option *options, const void *conf,
                         const char *name)
{
    const struct psc_option *o = find(options, NULL, name);
    const struct psc_config_places *places = const_places_of(options, conf);
    return o != NULL && places->line[o - options] != 0;
}

int psc_config_judge(const struct psc_option *options, const void *conf,
                     const char *name, int more, struct psc_error *why, int rc,
                     struct psc_error *err)
{
    const struct psc_config_places *places = const_places_of(options, conf);
    const struct psc_option *o = find(options, NULL, name);
    if (more == PSC_OK || (rc != PSC_OK && places->on_error == NULL)) {
        return rc;
    }
    if (o != NULL && places->line[o - options] > 0) {
        (void)psc_error_prefix(why, "%s:%d", places->file,
                               places->line[o - options]);
    }
    if (rc != PSC_OK) {
        places->on_error(err->msg);
    }
    *err = *why;
    return more;
}

/* --- the file --- */

/* inih reads line by line through read_line(), which so knows the line. */
struct load {
    const struct psc_option *options;
    void *conf;
    const char *text;                    /* what is still to be read */
    const char *name;                    /* of the file */
    int line;                            /* last one read, from 1 */
    int line_of[PSC_CONFIG_OPTIONS_MAX]; /* where an option was given */
    void (*on_error)(const char *message);
    unsigned n_errors;
    struct psc_error err; /* the last one */
};

static bool goes_on(const struct load *l)
{
    return l->n_errors == 0 ||
           (l->on_error != NULL && l->n_errors < ERRORS_MAX);
}

/* Note what psc_error_set() has made of @why; the one before is told. */
static void note_error(struct load *l, const struct psc_error *why)
{
    if (l->n_errors++ > 0) {
        l->on_error(l->err.msg);
    }
    l->err = *why;
}

static char *read_line(char *out, int cap, void *user)
{
    struct load *l = user;
    size_t len = strcspn(l->text, "\n");
    size_t whole = l->text[len] == '\n' ? len + 1 : len;
    if (!goes_on(l) || whole == 0) {
        return NULL;
    }
    l->line++;
    if (whole >= (size_t)cap) {
        struct psc_error why;
        (void)psc_error_set(&why, PSC_CONFIG,
                            "%s:%d: line is longer than %d bytes", l->name,
                            l->line, cap - 1);
        note_error(l, &why);
        return NULL;
    }
    memcpy(out, l->text, whole);
    out[whole] = '\0';
    l->text += whole;
    return out;
}

static int on_ini_value(void *user, const char *section, const char *name,
                        const char *value)
{
    struct load *l = user;
    struct psc_error why;
    if (!goes_on(l)) {
        return 1;
    }
    char where[300];
    (void)snprintf(where, sizeof(where), "%.256s:%d", l->name, l->line);
    const struct psc_option *o = find(l->options, section, name);
    int *first = o != NULL ? &l->line_of[o - l->options] : NULL;
    int rc;
    if (first != NULL && *first != 0) {
        rc = psc_error_set(&why, PSC_CONFIG,
                           "%s: %s is given twice, first in line %d", where,
                           name, *first);
    } else {
        rc = psc_config_set(l->options, l->conf, section, name,
                            value != NULL ? value : "", where, &why);
        if (first != NULL) {
            *first = l->line;
        }
    }
    if (rc != PSC_OK) {
        note_error(l, &why);
    }
    return 1;
}

int psc_config_parse(const struct psc_option *options, void *conf,
                     const char *text, const char *name, struct psc_error *err)
{
    struct psc_config_places *places = places_of(options, conf);
    struct psc_error why;
    struct load l = {
        .options = options,
        .conf = conf,
        .text = text,
        .name = name,
        .on_error = places != NULL ? places->on_error : NULL,
    };
    int line = ini_parse_stream(read_line, &l, on_ini_value, &l);
    if (line > 0 && goes_on(&l)) {
        (void)psc_error_set(&why, PSC_CONFIG,
                            "%s:%d: neither a [section], \"name = value\" nor "
                            "a comment",
                            name, line);
        note_error(&l, &why);
    } else if (line < 0 && goes_on(&l)) {
        (void)psc_error_set(&why, PSC_NOMEM, "%s: out of memory", name);
        note_error(&l, &why);
    }
    if (places != NULL) {
        (void)snprintf(places->file, sizeof(places->file), "%s", name);
        memcpy(places->line, l.line_of, sizeof(places->line));
    }
    return l.n_errors == 0 ? PSC_OK
                           : psc_error_set(err, l.err.code, "%s", l.err.msg);
}

int psc_config_load(const struct psc_option *options, void *conf,
                    const char *path, struct psc_error *err)
{
    struct psc_buf text;
    psc_buf_init(&text, FILE_MAX_BYTES);
    int rc = psc_file_read(path, &text, err);
    if (rc == PSC_OK) {
        psc_buf_u8(&text, '\0');
        rc = psc_buf_error(&text);
        if (rc != PSC_OK) {
            (void)psc_error_set(err, rc, "%s: %s", path, psc_strerror(rc));
        }
    }
    if (rc == PSC_OK && strlen((char *)text.data) + 1 != text.len) {
        rc = psc_error_set(err, PSC_CONFIG, "%s: not a text file", path);
    }
    if (rc == PSC_OK) {
        rc = psc_config_parse(options, conf, (char *)text.data, path, err);
    }
    psc_buf_fini(&text);
    return rc;
}

/* Whether "--some-name" (@arg without the dashes, @len bytes) is @name. */
static bool same_name(const char *name, const char *arg, size_t len)
{
    if (strlen(name) != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if ((name[i] == '_' ? '-' : name[i]) != arg[i]) {
            return false;
        }
    }
    return true;
}

int psc_config_arg(const struct psc_option *options, void *conf, int argc,
                   char **argv, int *i, int *known, struct psc_error *err)
{
    const char *arg = argv[*i];
    *known = 0;
    if (strncmp(arg, "--", 2) != 0) {
        return PSC_OK;
    }
    size_t len = strcspn(arg + 2, "=");
    const struct psc_option *o = options;
    while (o->name != NULL && !same_name(o->name, arg + 2, len)) {
        o++;
    }
    if (o->name == NULL) {
        return PSC_OK;
    }
    *known = 1;
    const char *value = arg[2 + len] == '=' ? arg + 3 + len : NULL;
    if (value == NULL && o->type == PSC_OPT_BOOL) {
        value = "yes";
    } else if (value == NULL && *i + 1 < argc) {
        value = argv[++*i];
    }
    if (value == NULL) {
        return psc_error_set(err, PSC_CONFIG, "%s: needs a value (%s)", arg,
                             expected(o->type));
    }
    ++*i;
    struct psc_config_places *places = places_of(options, conf);
    if (places != NULL) {
        places->line[o - options] = -1;
    }
    char label[NAME_MAX_BYTES];
    (void)snprintf(label, sizeof(label), "%.*s", (int)len + 2, arg);
    return set_option(o, conf, value, label, err);
}

static void print_dashed(const char *name, FILE *out)
{
    for (; *name != '\0'; name++) {
        (void)fputc(*name == '_' ? '-' : *name, out);
    }
}

void psc_config_help(const struct psc_option *options, FILE *out)
{
    for (const struct psc_option *o = options; o->name != NULL; o++) {
        (void)fputs("  --", out);
        print_dashed(o->name, out);
        if (o->arg != NULL) {
            (void)fprintf(out, " %s", o->arg);
        }
        (void)fputs("\n      ", out);
        for (const char *p = o->help; *p != '\0'; p++) {
            (void)fputc(*p, out);
            if (*p == '\n') {
                (void)fputs("      ", out);
            }
        }
        if (o->def != NULL && o->def[0] != '\0') {
            (void)fprintf(out, " [%s]", o->def);
        }
        (void)fputc('\n', out);
    }
}

static void print_value(const struct psc_option *o, const void *conf, FILE *out)
{
    const void *field = (const char *)conf + o->offset;
    if (o->type == PSC_OPT_STRING) {
        const char *const *text = field;
        bool set = *text != NULL && **text != '\0';
        (void)fprintf(out, "%s%s = %s\n", set ? "" : "#", o->name,
                      set ? *text : "");
    } else if (o->type == PSC_OPT_BOOL) {
        const bool *v = field;
        (void)fprintf(out, "%s = %s\n", o->name, *v ? "yes" : "no");
    } else {
        const int64_t *v = field;
        char text[32];
        format_number(o->type, *v, text, sizeof(text));
        (void)fprintf(out, "%s = %s\n", o->name, text);
    }
}

void psc_config_print(const struct psc_option *options, const void *conf,
                      FILE *out)
{
    const char *section = "";
    for (const struct psc_option *o = options; o->name != NULL; o++) {
        if (strcmp(section, o->section) != 0) {
            section = o->section;
            (void)fprintf(out, "[%s]\n", section);
        }
        (void)fputs("# ", out);
        for (const char *p = o->help; *p != '\0'; p++) {
            (void)fputc(*p, out);
            if (*p == '\n') {
                (void)fputs("# ", out);
            }
        }
        (void)fputc('\n', out);
        print_value(o, conf, out);
        (void)fputc('\n', out);
    }
}
