/* The agent's options and its command line. */
#include "agent/options.h"

#include <stddef.h>
#include <string.h>

#include "common/file.h"
#include "common/log.h"
#include "common/pki.h"
#include "proto/wire.h"

#define SECOND_US       1000000LL
#define MIN_INTERVAL_US 100000LL
#define DAY_US          (86400 * SECOND_US)

#define FIELD(name) offsetof(struct options, name)

const struct psc_option agent_options[] = {
    {"agent", "collector", PSC_OPT_STRING, FIELD(collector), NULL, 0, 0, "LIST",
     "collectors as host:port, in order of preference, with commas"},
    {"agent", "state_dir", PSC_OPT_STRING, FIELD(state_dir),
     "/var/lib/poolscope-agent", 0, 0, "DIR",
     "key, certificate and spool of this host"},
    {"agent", "interval", PSC_OPT_DURATION, FIELD(interval_us), "1m",
     MIN_INTERVAL_US, DAY_US, "TIME", "between snapshots of all tags"},
    {"agent", "counter_interval", PSC_OPT_DURATION, FIELD(counter_interval_us),
     "1m", MIN_INTERVAL_US, DAY_US, "TIME", "between samples of the counters"},
    {"agent", "driver_interval", PSC_OPT_DURATION, FIELD(driver_interval_us),
     "1h", SECOND_US, DAY_US, "TIME",
     "between inventories of drivers; sources that could not run are tried "
     "again then"},
    {"agent", "jitter", PSC_OPT_BOOL, FIELD(jitter), "yes", 0, 0, NULL,
     "give each host its own moment within the interval"},
    {"agent", "spool_max", PSC_OPT_SIZE, FIELD(spool_max_bytes), "64M",
     4LL << 20, 1LL << 40, "BYTES",
     "disk space for batches that no collector has yet; beyond it the oldest "
     "are dropped and counted"},
    {"agent", "spool_sync", PSC_OPT_DURATION, FIELD(spool_sync_us), "30s",
     SECOND_US, 3600 * SECOND_US, "TIME",
     "the most that a power failure may cost"},
    {"agent", "token", PSC_OPT_STRING, FIELD(token), NULL, 0, 0, "TOKEN",
     "enrols this host at its first start (poolscope token create)"},
    {"agent", "token_file", PSC_OPT_STRING, FIELD(token_file), NULL, 0, 0,
     "FILE", "a file with the enrolment token"},
    {"agent", "role", PSC_OPT_STRING, FIELD(role), "", 0, 0, "TEXT",
     "what this host does, such as \"database\""},
    {"agent", "region", PSC_OPT_STRING, FIELD(region), "", 0, 0, "TEXT",
     "where this host stands"},
    {"agent", "labels", PSC_OPT_STRING, FIELD(labels), "", 0, 0, "LIST",
     "further labels as name=value, with commas"},
    {"agent", "host", PSC_OPT_STRING, FIELD(host), NULL, 0, 0, "NAME",
     "name to enrol under instead of the system's"},
    {"agent", "log_level", PSC_OPT_STRING, FIELD(log_level), "info", 0, 0,
     "LEVEL", "error, warn, info or debug"},
    {"agent", "root", PSC_OPT_STRING, FIELD(root), "", 0, 0, "DIR",
     "read a recorded tree (DIR/proc, DIR/sys) instead of this host"},
    {"agent", "top_processes", PSC_OPT_INT, FIELD(top_processes), "10", 0, 1000,
     "NUMBER", "processes to report by each order, 0 for none"},
    {.name = NULL, .offset = FIELD(places)},
};

/* Take the next item of a list with commas, without blanks around it. */
static struct psc_bytes next_item(const char **at)
{
    const char *start = *at + strspn(*at, " \t");
    const char *end = start + strcspn(start, ",");
    *at = *end == ',' ? end + 1 : end;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    struct psc_bytes item = {(const uint8_t *)start, (size_t)(end - start)};
    return item;
}

static bool is_port(const char *text, size_t len)
{
    if (len == 0 || len > 5) {
        return false;
    }
    unsigned port = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port > 0 && port <= 65535;
}

static bool parse_endpoint(struct psc_bytes item, struct endpoint *out)
{
    const char *text = (const char *)item.data;
    const char *host = text;
    size_t host_len;
    const char *port = OPTIONS_DEFAULT_PORT;
    size_t port_len = strlen(port);
    const char *rest = NULL;
    if (item.len > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', item.len);
        if (close == NULL) {
            return false;
        }
        host = text + 1;
        host_len = (size_t)(close - host);
        rest = close + 1;
    } else {
        const char *colon = memchr(text, ':', item.len);
        host_len = colon == NULL ? item.len : (size_t)(colon - text);
        rest = text + host_len;
    }
    size_t rest_len = item.len - (size_t)(rest - text);
    if (rest_len > 0) {
        if (*rest != ':') {
            return false;
        }
        port = rest + 1;
        port_len = rest_len - 1;
    }
    if (host_len == 0 || host_len >= sizeof(out->host) ||
        !is_port(port, port_len)) {
        return false;
    }
    memcpy(out->host, host, host_len);
    out->host[host_len] = '\0';
    memcpy(out->port, port, port_len);
    out->port[port_len] = '\0';
    return true;
}

int agent_options_endpoints(const char *text, struct endpoint *out,
                            unsigned cap, unsigned *count,
                            struct psc_error *err)
{
    *count = 0;
    const char *at = text == NULL ? "" : text;
    while (*at != '\0') {
        struct psc_bytes item = next_item(&at);
        if (*count == cap) {
            return psc_error_set(err, PSC_CONFIG,
                                 "collector: more than %u of them", cap);
        }
        if (!parse_endpoint(item, &out[*count])) {
            return psc_error_set(err, PSC_CONFIG,
                                 "collector: \"%.*s\" is not host:port",
                                 (int)item.len, (const char *)item.data);
        }
        (*count)++;
    }
    return PSC_OK;
}

static bool is_among(const struct psc_bytes *names, unsigned n,
                     struct psc_bytes name)
{
    for (unsigned i = 0; i < n; i++) {
        if (names[i].len == name.len &&
            memcmp(names[i].data, name.data, name.len) == 0) {
            return true;
        }
    }
    return false;
}

int agent_options_labels(const char *text, struct psc_buf *out,
                         struct psc_error *err)
{
    const char *at = text == NULL ? "" : text;
    struct psc_bytes names[OPTIONS_LABELS_MAX];
    unsigned n = 0;
    while (*at != '\0') {
        struct psc_bytes item = next_item(&at);
        const uint8_t *sign =
            item.len == 0 ? NULL : memchr(item.data, '=', item.len);
        if (sign == NULL || sign == item.data) {
            return psc_error_set(err, PSC_CONFIG,
                                 "labels: \"%.*s\" is not name=value",
                                 (int)item.len, (const char *)item.data);
        }
        if (n == OPTIONS_LABELS_MAX) {
            return psc_error_set(err, PSC_CONFIG, "labels: more than %u",
                                 OPTIONS_LABELS_MAX);
        }
        names[n].data = item.data;
        names[n].len = (size_t)(sign - item.data);
        if (is_among(names, n, names[n])) {
            return psc_error_set(err, PSC_CONFIG,
                                 "labels: \"%.*s\" is given twice",
                                 (int)names[n].len, (const char *)item.data);
        }
        psc_buf_string(out, item.data, names[n].len);
        psc_buf_string(out, sign + 1, item.len - names[n].len - 1);
        n++;
    }
    int rc = psc_buf_error(out);
    return rc == PSC_OK ? rc
                        : psc_error_set(err, PSC_CONFIG, "labels: too long");
}

static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int agent_options_token(const struct options *o, struct psc_buf *out,
                        struct psc_error *err)
{
    if (is_set(o->token)) {
        psc_buf_append(out, o->token, strlen(o->token));
    } else if (is_set(o->token_file)) {
        int rc = psc_file_read(o->token_file, out, err);
        if (rc != PSC_OK) {
            (void)psc_error_prefix(err, "token_file");
            return rc;
        }
    }
    while (out->len > 0 && is_blank(out->data[out->len - 1])) {
        out->len--;
    }
    return psc_buf_error(out);
}

/* Which option gives the token. */
static const char *token_option(const struct options *o)
{
    return is_set(o->token) ? "token" : "token_file";
}

static int check_token(const struct options *o, struct psc_error *err)
{
    struct psc_buf text;
    psc_buf_init(&text, 4096);
    int rc = agent_options_token(o, &text, err);
    if (rc == PSC_MISSING) {
        rc = PSC_OK; /* it may be gone once the host is enrolled */
    } else if (rc == PSC_OK && text.len > 0) {
        psc_buf_u8(&text, '\0');
        struct psc_token token;
        rc = psc_buf_error(&text);
        if (rc == PSC_OK) {
            rc = psc_token_parse((const char *)text.data, &token, err);
        }
        if (rc != PSC_OK) {
            (void)psc_error_prefix(err, "%s", token_option(o));
        }
        memset(&token, 0, sizeof(token));
    }
    psc_buf_wipe(&text);
    psc_buf_fini(&text);
    return rc;
}

static int check_collector(const struct options *o, bool need,
                           struct psc_error *err)
{
    struct endpoint list[OPTIONS_MAX_COLLECTORS];
    unsigned count;
    int rc = agent_options_endpoints(o->collector, list, OPTIONS_MAX_COLLECTORS,
                                     &count, err);
    if (rc == PSC_OK && need && count == 0) {
        rc = psc_error_set(err, PSC_CONFIG,
                           "collector: not set; give --collector HOST:PORT "
                           "or set it in the configuration file");
    }
    return rc;
}

static int check_log_level(const struct options *o, struct psc_error *err)
{
    enum psc_log_level level;
    return psc_log_level_parse(o->log_level, &level)
               ? PSC_OK
               : psc_error_set(err, PSC_CONFIG,
                               "log_level = %s: expected error, warn, info or "
                               "debug",
                               o->log_level);
}

/* A service runs elsewhere than the shell that somebody tries this in. */
static int check_state_dir(const struct options *o, struct psc_error *err)
{
    if (!is_set(o->state_dir)) {
        return psc_error_set(err, PSC_CONFIG, "state_dir: not set");
    }
    return o->state_dir[0] == '/'
               ? PSC_OK
               : psc_error_set(err, PSC_CONFIG,
                               "state_dir = %.150s: must be a whole path, from "
                               "/ on",
                               o->state_dir);
}

static int check_host(const struct options *o, struct psc_error *err)
{
    return !is_set(o->host) || wire_is_host_name(o->host)
               ? PSC_OK
               : psc_error_set(err, PSC_CONFIG,
                               "host = %.64s: must be 1 to 253 letters, "
                               "digits, '.', '_' and '-', the first no '.' or "
                               "'-'",
                               o->host);
}

static int check_labels(const struct options *o, struct psc_error *err)
{
    struct psc_buf labels;
    psc_buf_init(&labels, 64 << 10);
    int rc = agent_options_labels(o->labels, &labels, err);
    psc_buf_fini(&labels);
    return rc;
}

int agent_options_check(const struct options *o, bool need_collector,
                        struct psc_error *err)
{
    static const struct {
        const char *name;
        int (*check)(const struct options *o, struct psc_error *err);
    } checks[] = {
        {"log_level", check_log_level},
        {"state_dir", check_state_dir},
        {"host", check_host},
        {"labels", check_labels},
    };
    struct psc_error why = {.msg = ""};
    int more = check_collector(o, need_collector, &why);
    int rc = psc_config_judge(agent_options, o, "collector", more, &why, PSC_OK,
                              err);
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        more = checks[i].check(o, &why);
        rc = psc_config_judge(agent_options, o, checks[i].name, more, &why, rc,
                              err);
    }
    more = check_token(o, &why);
    return psc_config_judge(agent_options, o, token_option(o), more, &why, rc,
                            err);
}

int agent_options_check_files(const struct options *o, struct psc_error *err)
{
    char path[4096];
    struct psc_buf text;
    struct psc_error ignored;
    struct psc_error why = {.msg = ""};
    if (is_set(o->token) || !is_set(o->token_file) ||
        psc_path_join(path, sizeof(path), o->state_dir, "identity.pem") != 0) {
        return PSC_OK;
    }
    psc_buf_init(&text, 64 << 10);
    /* An enrolled host needs no token any more. */
    bool enrolled = psc_file_read(path, &text, &ignored) != PSC_MISSING;
    psc_buf_wipe(&text);
    psc_buf_reset(&text);
    int more = enrolled ? PSC_OK : agent_options_token(o, &text, &why);
    psc_buf_wipe(&text);
    psc_buf_fini(&text);
    return psc_config_judge(agent_options, o, "token_file", more, &why, PSC_OK,
                            err);
}

/* --- the command line --- */

/* Take a word of the command line that is no option of the table. */
static int take_word(int argc, char **argv, int *i, struct command_line *line,
                     bool *print, struct psc_error *err)
{
    const char *word = argv[*i];
    *i += 1;
    if (strcmp(word, "--config") == 0 || strcmp(word, "--enrol") == 0) {
        if (*i >= argc) {
            return psc_error_set(err, PSC_CONFIG, "%s: a value is missing",
                                 word);
        }
        if (word[2] == 'c') {
            line->config = argv[*i];
        } else {
            line->command = COMMAND_ENROL;
            line->enrol = argv[*i];
        }
        *i += 1;
    } else if (strncmp(word, "--config=", 9) == 0) {
        line->config = word + 9;
    } else if (strncmp(word, "--enrol=", 8) == 0) {
        line->command = COMMAND_ENROL;
        line->enrol = word + 8;
    } else if (strcmp(word, "--once") == 0) {
        line->command = COMMAND_ONCE;
    } else if (strcmp(word, "--print") == 0 ||
               strcmp(word, "--print=text") == 0) {
        *print = true;
    } else if (strcmp(word, "--print=json") == 0) {
        *print = true;
        line->json = true;
    } else if (strcmp(word, "--check") == 0) {
        line->command = COMMAND_CHECK;
    } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        line->command = COMMAND_HELP;
    } else if (strcmp(word, "--version") == 0) {
        line->command = COMMAND_VERSION;
    } else {
        return psc_error_set(err, PSC_CONFIG, "unknown option %s (try --help)",
                             word);
    }
    return PSC_OK;
}

/* One pass over the words: those of the table go to @conf, the others to
 * @line. */
static int take_words(int argc, char **argv, struct options *conf,
                      struct command_line *line, struct psc_error *err)
{
    bool print = false;
    memset(line, 0, sizeof(*line));
    for (int i = 1; i < argc;) {
        int known = 0;
        int rc =
            psc_config_arg(agent_options, conf, argc, argv, &i, &known, err);
        if (rc == PSC_OK && !known) {
            rc = take_word(argc, argv, &i, line, &print, err);
        }
        if (rc != PSC_OK) {
            return rc;
        }
    }
    if (print && line->command != COMMAND_ONCE) {
        return psc_error_set(err, PSC_CONFIG, "--print goes with --once");
    }
    return PSC_OK;
}

int agent_options_read(int argc, char **argv, struct options *conf,
                       struct command_line *line, struct psc_error *err)
{
    /* The file first, then the words once more, as they win over it. */
    int rc = take_words(argc, argv, conf, line, err);
    if (rc != PSC_OK || line->config == NULL || line->command == COMMAND_HELP ||
        line->command == COMMAND_VERSION) {
        return rc;
    }
    rc = psc_config_load(agent_options, conf, line->config, err);
    return rc == PSC_OK ? take_words(argc, argv, conf, line, err) : rc;
}
