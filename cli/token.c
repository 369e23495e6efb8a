/* `poolscope token`: tokens with which agents enrol. The database keeps a
 * hash of the secret only, so a token is shown once. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/query.h"
#include "cli/units.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/pki.h"

#define CA_FILE_MAX_BYTES ((size_t)256 * 1024)

struct token_conf {
    int64_t uses;
    int64_t for_us;
    char *note;
    char *ca;
    char *collector;
    bool quiet;
};

static const struct psc_option token_options[] = {
    {"token", "uses", PSC_OPT_INT, offsetof(struct token_conf, uses), "1", 1,
     1000000, "N", "create: how many hosts may enrol with it"},
    {"token", "for", PSC_OPT_DURATION, offsetof(struct token_conf, for_us),
     "24h", 60 * PSC_US_PER_S, 3650LL * 86400 * PSC_US_PER_S, "TIME",
     "create: how long it is good"},
    {"token", "note", PSC_OPT_STRING, offsetof(struct token_conf, note), "", 0,
     0, "TEXT", "create: what it is for, for the list"},
    {"token", "ca", PSC_OPT_STRING, offsetof(struct token_conf, ca), NULL, 0, 0,
     "FILE",
     "create: the collector's CA certificate (PEM); without it the\n"
     "one that the collector made known in the database is used"},
    {"token", "collector", PSC_OPT_STRING,
     offsetof(struct token_conf, collector), NULL, 0, 0, "HOST:PORT",
     "create: the collector's address, for the command shown"},
    {"token", "quiet", PSC_OPT_BOOL, offsetof(struct token_conf, quiet), NULL,
     0, 0, NULL, "create: print nothing but the token"},
    {.name = NULL}};

static int from_hex(const char *hex, uint8_t out[PSC_SHA256_BYTES])
{
    size_t len = 0;

    return strlen(hex) == (size_t)PSC_SHA256_BYTES * 2 &&
                   OPENSSL_hexstr2buf_ex(out, PSC_SHA256_BYTES, &len, hex,
                                         '\0') == 1 &&
                   len == PSC_SHA256_BYTES
               ? 0
               : PSC_FORMAT;
}

static int ca_from_file(const char *path, uint8_t out[PSC_SHA256_BYTES],
                        struct psc_error *err)
{
    struct psc_buf pem;
    X509 *cert = NULL;

    psc_buf_init(&pem, CA_FILE_MAX_BYTES);
    int rc = psc_file_read(path, &pem, err);
    if (rc == 0) {
        rc = psc_cert_from_pem(psc_buf_bytes(&pem), &cert, err);
    }
    if (rc == 0) {
        rc = psc_cert_sha256(cert, out);
        rc = rc == 0 ? 0 : psc_error_set(err, rc, "%s", psc_strerror(rc));
    }
    X509_free(cert);
    psc_buf_fini(&pem);
    return rc;
}

static int ca_from_database(PGconn *conn, uint8_t out[PSC_SHA256_BYTES],
                            struct psc_error *err)
{
    PGresult *r;
    int rc = query_exec(conn,
                        "SELECT value AS sha256 FROM poolscope.setting "
                        "WHERE name = 'ca_sha256'",
                        0, NULL, &r, err);

    if (rc != 0) {
        return rc;
    }
    if (PQntuples(r) == 0 || !*query_value(r, 0, "sha256")) {
        rc = psc_error_set(err, PSC_MISSING,
                           "the database does not know the collector's CA "
                           "yet: start poolscope-collector once, or give --ca "
                           "FILE");
    } else if (from_hex(query_value(r, 0, "sha256"), out) != 0) {
        rc = psc_error_set(err, PSC_FORMAT,
                           "setting ca_sha256 is no SHA-256 in hex");
    }
    PQclear(r);
    return rc;
}

/* Store the token's hash; *@id becomes its number. */
static int store(PGconn *conn, const struct token_conf *conf,
                 const struct psc_token *token, int64_t *id,
                 struct psc_error *err)
{
    uint8_t hash[PSC_SHA256_BYTES];
    char hex[2 + PSC_SHA256_BYTES * 2 + 1] = "\\x";
    char uses[24];
    char valid_for[40];
    PGresult *r;

    if (EVP_Digest(token->secret, sizeof token->secret, hash, NULL,
                   EVP_sha256(), NULL) != 1) {
        return psc_error_set(err, PSC_NOMEM, "SHA-256 failed");
    }
    for (size_t i = 0; i < sizeof hash; i++) {
        snprintf(hex + 2 + 2 * i, 3, "%02x", hash[i]);
    }
    snprintf(uses, sizeof uses, "%lld", (long long)conf->uses);
    snprintf(valid_for, sizeof valid_for, "%lld seconds",
             (long long)(conf->for_us / PSC_US_PER_S));
    const char *params[] = {hex, uses, valid_for, conf->note};
    int rc = query_exec(conn,
                        "SELECT poolscope_api.token_create($1::bytea, $2::int, "
                        "$3::interval, $4) AS token_id",
                        4, params, &r, err);
    if (rc == 0) {
        *id = strtoll(query_value(r, 0, "token_id"), NULL, 10);
        PQclear(r);
    }
    return rc;
}

static void print_token(const struct cli *cli, const struct token_conf *conf,
                        const char *text, int64_t id)
{
    const char *collector =
        conf->collector ? conf->collector : "COLLECTOR:7443";

    if (conf->quiet) {
        puts(text);
    } else if (cli->format == CLI_JSON) {
        printf("{\"token_id\": %lld, \"token\": \"%s\"}\n", (long long)id,
               text);
    } else if (cli->format == CLI_CSV) {
        printf("token_id,token\n%lld,%s\n", (long long)id, text);
    } else {
        printf("Token %lld, good for %s and %lld host%s; it is shown only "
               "now:\n\n%s\n\nOn each host, as the agent's user:\n\n"
               "  poolscope-agent --collector %s --enrol %s\n",
               (long long)id, unit_span(conf->for_us).text,
               (long long)conf->uses, conf->uses == 1 ? "" : "s", text,
               collector, text);
    }
}

static int create(struct cli *cli, const struct token_conf *conf)
{
    struct psc_token token;
    struct psc_error err;
    char text[PSC_TOKEN_TEXT_BYTES];
    int64_t id = 0;
    PGconn *conn;
    int code = query_connect(cli, DATABASE_WRITER, &conn);

    if (code != CLI_OK) {
        return code;
    }
    int rc = conf->ca ? ca_from_file(conf->ca, token.ca_sha256, &err)
                      : ca_from_database(conn, token.ca_sha256, &err);
    if (rc == 0 && RAND_bytes(token.secret, sizeof token.secret) != 1) {
        rc = psc_error_set(&err, PSC_IO, "no random numbers");
    }
    if (rc == 0) {
        rc = store(conn, conf, &token, &id, &err);
    }
    if (rc == 0) {
        psc_token_format(&token, text);
        print_token(cli, conf, text, id);
        OPENSSL_cleanse(text, sizeof text);
    }
    OPENSSL_cleanse(&token, sizeof token);
    PQfinish(conn);
    return rc == 0 ? CLI_OK : cli_fail(&err);
}

static int list(struct cli *cli)
{
    static const struct query_column columns[] = {
        {"token_id", "ID", SHOW_TEXT},
        {"state", "STATE", SHOW_STATUS},
        {"uses_left", "LEFT", SHOW_COUNT},
        {"uses", "OF", SHOW_COUNT},
        {"created_at", "CREATED", SHOW_AGO},
        {"expires_at", "EXPIRES", SHOW_AGO},
        {"note", "NOTE", SHOW_NAME},
        {.name = NULL}};
    struct query q = {.sql = "SELECT * FROM poolscope_api.token_list()",
                      .columns = columns,
                      .empty = "No tokens."};
    PGconn *conn;
    int code = query_connect(cli, DATABASE_WRITER, &conn);

    if (code == CLI_OK) {
        code = query_print(cli, conn, &q);
        PQfinish(conn);
    }
    return code;
}

/* @r: what the token was before it was revoked. */
static int tell_revoked(const PGresult *r, const char *id)
{
    const char *state = PQntuples(r) > 0 ? query_value(r, 0, "state") : "";

    if (!*state) {
        return cli_failf("no token %s: 'poolscope token list' lists them", id);
    }
    if (strcmp(state, "revoked") == 0) {
        printf("token %s was revoked before\n", id);
    } else if (strcmp(state, "usable") != 0) {
        printf("token %s was of no use any more (%s); it is revoked now\n", id,
               state);
    } else {
        printf("token %s is revoked; hosts that enrolled with it stay\n", id);
    }
    return CLI_OK;
}

static int revoke_token(struct cli *cli, const char *id)
{
    struct psc_error err;
    PGresult *r;
    PGconn *conn;
    const char *params[] = {id};
    int code = query_connect(cli, DATABASE_WRITER, &conn);

    if (code != CLI_OK) {
        return code;
    }
    if (query_exec(conn,
                   "SELECT state, poolscope_api.token_revoke(token_id) "
                   "FROM poolscope_api.token_list() "
                   "WHERE token_id = $1::bigint",
                   1, params, &r, &err) != 0) {
        code = cli_fail(&err);
    } else {
        code = tell_revoked(r, id);
        PQclear(r);
    }
    PQfinish(conn);
    return code;
}

static int dispatch(struct cli *cli, const struct command *command,
                    const struct token_conf *conf,
                    const struct cli_words *words)
{
    const char *verb = words->v[0];
    char *end;

    if (strcmp(verb, "create") == 0 && words->n == 1) {
        return create(cli, conf);
    }
    if (strcmp(verb, "list") == 0 && words->n == 1) {
        return list(cli);
    }
    if (strcmp(verb, "revoke") == 0 && words->n == 2) {
        int code = cli_no_format(cli, command, "token revoke");
        if (code >= 0) {
            return code;
        }
        if (strtoll(words->v[1], &end, 10) > 0 && *end == '\0') {
            return revoke_token(cli, words->v[1]);
        }
        return cli_usagef(command, "'%s' is no token's number", words->v[1]);
    }
    return cli_no_verb(command, words);
}

static int token_run(struct cli *cli, const struct command *command, int argc,
                     char **argv)
{
    struct token_conf conf = {0};
    struct cli_words words;
    int code = cli_args(cli, command, &conf, argc, argv, 1, 2, &words);

    if (code >= 0) {
        return code;
    }
    code = dispatch(cli, command, &conf, &words);
    psc_config_fini(token_options, &conf);
    return code;
}

const struct command command_token = {
    "token",
    "create [OPTION]... | list | revoke ID",
    "tokens with which agents enrol",
    "create makes a token for one host, or --uses N of them, and prints it "
    "with "
    "the agent's command; it is not kept, only its hash is. The token holds "
    "the "
    "SHA-256 of the collector's CA, so that an agent talks to no other. revoke "
    "ends a token, not the hosts that have used it.",
    token_options,
    "  poolscope token create --collector poolscope.example:7443\n"
    "  poolscope token create --uses 500 --for 7d --note 'web servers'\n"
    "  poolscope token list\n",
    token_run,
    CLI_SHOWN_ALL};
