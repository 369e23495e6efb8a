/* Lists of hosts, ports and addresses, as libpq has them: "a,b", "5432,5433"
 * or one port for all, and an address or nothing for each host. */
#include "collector/pghosts.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/buf.h"

enum {
    HOSTS_MAX = 32,
    ADDRESSES_MAX = 8, /* of one name */
    LIST_MAX_BYTES = 16 * 1024,
};

/* ---- reading ---- */

static const char *value_of(const PQconninfoOption *options,
                            const char *keyword)
{
    for (; options->keyword != NULL; options++) {
        if (strcmp(options->keyword, keyword) == 0) {
            return options->val != NULL ? options->val : "";
        }
    }
    return "";
}

/* The @i-th of a list with commas into @out; false when there is none. */
static bool item(const char *list, unsigned i, char *out, size_t cap)
{
    for (; i > 0; i--) {
        list = strchr(list, ',');
        if (list == NULL) {
            return false;
        }
        list++;
    }
    size_t len = strcspn(list, ",");
    if (len >= cap) {
        return false;
    }
    memcpy(out, list, len);
    out[len] = '\0';
    return true;
}

static bool is_name(const char *host)
{
    struct in6_addr any;
    return host[0] != '\0' && host[0] != '/' && host[0] != '@' &&
           inet_pton(AF_INET, host, &any) != 1 &&
           inet_pton(AF_INET6, host, &any) != 1;
}

static bool has_names(const PQconninfoOption *options)
{
    char host[NI_MAXHOST];
    if (value_of(options, "hostaddr")[0] != '\0') {
        return false;
    }
    for (unsigned i = 0; i < HOSTS_MAX &&
                         item(value_of(options, "host"), i, host, sizeof(host));
         i++) {
        if (is_name(host)) {
            return true;
        }
    }
    return false;
}

bool pghosts_has_names(const char *conninfo)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    bool names = options != NULL && has_names(options);
    PQconninfoFree(options);
    return names;
}

/* ---- looking up ---- */

struct lists {
    struct psc_buf host, address, port;
    unsigned n;
};

static void put(struct lists *l, const char *host, const char *address,
                const char *port)
{
    const char *comma = l->n > 0 ? "," : "";
    psc_buf_printf(&l->host, "%s%s", comma, host);
    psc_buf_printf(&l->address, "%s%s", comma, address);
    psc_buf_printf(&l->port, "%s%s", comma, port);
    l->n++;
}

/* All addresses of one name. */
static int look_up(struct lists *l, const char *host, const char *port,
                   struct psc_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    char address[NI_MAXHOST];
    int rc = getaddrinfo(host, NULL, &hints, &found);
    if (rc != 0) {
        return psc_error_set(err, PSC_CONNECTION, "looking up %s: %s", host,
                             gai_strerror(rc));
    }
    unsigned n = 0;
    for (const struct addrinfo *a = found; a != NULL && n < ADDRESSES_MAX;
         a = a->ai_next) {
        if (getnameinfo(a->ai_addr, a->ai_addrlen, address, sizeof(address),
                        NULL, 0, NI_NUMERICHOST) == 0) {
            put(l, host, address, port);
            n++;
        }
    }
    freeaddrinfo(found);
    return n > 0
               ? PSC_OK
               : psc_error_set(err, PSC_CONNECTION, "%s has no address", host);
}

static int fill(struct lists *l, const PQconninfoOption *options,
                struct psc_error *err)
{
    const char *ports = value_of(options, "port");
    bool one_port = strchr(ports, ',') == NULL;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    for (unsigned i = 0; i < HOSTS_MAX &&
                         item(value_of(options, "host"), i, host, sizeof(host));
         i++) {
        if (!item(ports, one_port ? 0 : i, port, sizeof(port))) {
            return psc_error_set(err, PSC_CONFIG, "fewer ports than hosts");
        }
        if (!is_name(host)) {
            put(l, host, "", port);
        } else {
            (void)look_up(l, host, port, err); /* perhaps the next one is */
        }
    }
    return l->n > 0 ? PSC_OK : PSC_CONNECTION;
}

/* ---- writing ---- */

static void put_option(struct psc_buf *out, const char *keyword,
                       const char *value)
{
    psc_buf_printf(out, "%s='", keyword);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\') {
            psc_buf_u8(out, '\\');
        }
        psc_buf_u8(out, (uint8_t)*value);
    }
    psc_buf_printf(out, "' ");
}

static const char *text_of(struct psc_buf *list)
{
    psc_buf_u8(list, '\0');
    return psc_buf_error(list) == PSC_OK ? (const char *)list->data : "";
}

static void write_all(struct psc_buf *out, const PQconninfoOption *options,
                      struct lists *l)
{
    for (; options->keyword != NULL; options++) {
        const char *k = options->keyword;
        if (options->val != NULL && strcmp(k, "host") != 0 &&
            strcmp(k, "hostaddr") != 0 && strcmp(k, "port") != 0) {
            put_option(out, k, options->val);
        }
    }
    put_option(out, "host", text_of(&l->host));
    put_option(out, "hostaddr", text_of(&l->address));
    put_option(out, "port", text_of(&l->port));
    psc_buf_u8(out, '\0');
}

int pghosts_look_up(const char *conninfo, char **out, struct psc_error *err)
{
    struct lists l = {.n = 0};
    struct psc_buf text;
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    *out = NULL;
    if (options == NULL) {
        return psc_error_set(err, PSC_CONFIG, "not a connection string");
    }
    psc_buf_init(&l.host, LIST_MAX_BYTES);
    psc_buf_init(&l.address, LIST_MAX_BYTES);
    psc_buf_init(&l.port, LIST_MAX_BYTES);
    psc_buf_init(&text, (size_t)4 * LIST_MAX_BYTES);
    int rc = fill(&l, options, err);
    if (rc == PSC_OK) {
        write_all(&text, options, &l);
        rc = psc_buf_error(&l.host);
        rc = rc == PSC_OK ? psc_buf_error(&l.address) : rc;
        rc = rc == PSC_OK ? psc_buf_error(&l.port) : rc;
        rc = rc == PSC_OK ? psc_buf_error(&text) : rc;
        *out = rc == PSC_OK ? strdup((const char *)text.data) : NULL;
        if (*out == NULL) {
            rc = psc_error_set(err, PSC_NOMEM, "too many addresses");
        }
    }
    psc_buf_fini(&l.host);
    psc_buf_fini(&l.address);
    psc_buf_fini(&l.port);
    psc_buf_fini(&text);
    PQconninfoFree(options);
    return rc;
}
