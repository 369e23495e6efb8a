/* Who the peer is: claims, enrolment, renewal. Identity comes from the
 * certificate that TLS has verified, never from what a frame says.
 *
 * Happy paths: Hello -> certificate judged -> store_claim() -> Welcome;
 * Enrol -> store_enrol() -> certificate issued -> Certificate -> end;
 * Renew likewise, within a session or as the first frame, for which a
 * certificate may have expired up to 30 days ago. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "collector/decode_lists.h"
#include "collector/sanitise.h"
#include "collector/session_private.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    DATABASE_DEADLINE_S = 60,
    TOKEN_SECRET_BYTES = 32,
    TEXT_MAX_BYTES = 256,
    REQUEST_MAX_BYTES = 4096,
    CHAIN_MAX_BYTES = 64 * 1024,
    SHOWN_NAME_BYTES = 64,
    CERT_NAME_BYTES = 64 + 1, /* the most that X.509 allows, and a NUL */
};

#define RENEWAL_GRACE_US (30LL * 86400 * PSC_US_PER_S)

/* ---- the certificate ---- */

/* The host's name as its certificate has it, for messages alone. */
static void note_name(struct session *s, X509 *cert)
{
    char name[CERT_NAME_BYTES];
    int len = X509_NAME_get_text_by_NID(X509_get_subject_name(cert),
                                        NID_commonName, name, sizeof(name));
    /* A certificate has no room for a longer one: this may be cut. */
    if (len > 0 && len < CERT_NAME_BYTES - 1 && wire_is_host_name(name)) {
        (void)snprintf(s->name, sizeof(s->name), "%s", name);
    }
}

/* Judge the peer's certificate and note whose it is; refuses and returns
 * false if it will not do. @renewal: an expired one may, for a while. */
static bool check_certificate(struct session *s, bool renewal)
{
    bool expired = false;
    X509 *cert = psc_tls_peer(&s->conn.tls, &expired);
    if (cert == NULL) {
        session_refuse(s, WIRE_REFUSAL_NO_CERTIFICATE,
                       "no client certificate; enrol first");
        return false;
    }
    if (psc_cert_host_id(cert, &s->host_id) != PSC_OK ||
        psc_cert_validity(cert, &s->not_before_us, &s->not_after_us) !=
            PSC_OK) {
        session_refuse(s, WIRE_REFUSAL_UNKNOWN_HOST,
                       "the certificate is not a host's");
        return false;
    }
    note_name(s, cert);
    char owner[SESSION_OWNER_BYTES];
    session_owner(s, owner);
    int64_t now_us = psc_clock_wall_us();
    if (expired && !renewal) {
        session_refuse(s, WIRE_REFUSAL_EXPIRED,
                       "the certificate of %s has expired and is good for "
                       "renewal only",
                       owner);
        return false;
    }
    if (expired && (now_us > s->not_after_us + RENEWAL_GRACE_US ||
                    now_us < s->not_before_us)) {
        session_refuse(s, WIRE_REFUSAL_EXPIRED,
                       "the certificate of %s expired more than 30 days ago; "
                       "enrol anew",
                       owner);
        return false;
    }
    return true;
}

static void refuse_answer(struct session *s, enum store_answer answer)
{
    char owner[SESSION_OWNER_BYTES];
    session_owner(s, owner);
    switch (answer) {
    case STORE_UNKNOWN_HOST:
        session_refuse(s, WIRE_REFUSAL_UNKNOWN_HOST,
                       "there is no host with id %" PRId64, s->host_id);
        break;
    case STORE_DISABLED: session_refuse_disabled(s); break;
    case STORE_OLD_CERTIFICATE:
        session_refuse(s, WIRE_REFUSAL_UNKNOWN_HOST,
                       "%s was enrolled anew; this certificate is void", owner);
        break;
    case STORE_TOKEN:
        session_refuse(s, WIRE_REFUSAL_TOKEN,
                       "the token is unknown, used up, revoked or expired");
        break;
    case STORE_NAME_TAKEN:
        session_refuse(s, WIRE_REFUSAL_NAME_TAKEN,
                       "%s exists and is live: to let it enrol anew an "
                       "administrator runs poolscope host reenrol %s",
                       owner, s->name);
        break;
    default:
        session_refuse(s, WIRE_REFUSAL_BUSY, "the database gave no answer");
        break;
    }
}

/* The database refused a request for a reason of its own. */
static void refuse_failure(struct session *s,
                           const struct pglink_failure *failure)
{
    char owner[SESSION_OWNER_BYTES];
    session_owner(s, owner);
    psc_log_error("a request for %s failed in the database: %s",
                  owner[0] != '\0' ? owner : psc_conn_peer_name(&s->conn),
                  failure->err.msg);
    session_refuse(s, WIRE_REFUSAL_BUSY, "the database refuses; try again");
}

/* A request has ended: whether the store agrees, and the session is still
 * there to hear it; refuses if it does not. */
static bool is_granted(struct session *s, const struct pglink_failure *failure,
                       enum store_answer answer)
{
    if (!session_request_done(s)) {
        return false;
    }
    if (failure != NULL) {
        refuse_failure(s, failure);
    } else if (answer != STORE_OK) {
        refuse_answer(s, answer);
    }
    return failure == NULL && answer == STORE_OK;
}

/* ---- claiming ---- */

static void put_fact(struct psc_buf *out, const char *name, const char *text)
{
    struct psc_bytes bytes = {(const uint8_t *)text, strlen(text)};
    psc_buf_printf(out, ",\"%s\":", name);
    sanitise_json_string(out, bytes, TEXT_MAX_BYTES);
}

/* @id NULL: no row is to be made of it. */
static void put_boot_id(struct psc_buf *out, const uint8_t *id)
{
    psc_buf_printf(out, "{\"boot_id\":%s", id != NULL ? "\"" : "null");
    for (unsigned i = 0; id != NULL && i < 16; i++) {
        psc_buf_printf(out, "%02x", id[i]);
    }
    if (id != NULL) {
        psc_buf_u8(out, '"');
    }
}

/* What the hello says, as the store takes it. @slot: the host's, or NULL. */
static void build_facts(struct session *s, const struct wire_hello *h,
                        struct host_slot *slot)
{
    bool with_boot = slot == NULL || budget_take_boot(&slot->budget, h->boot_id,
                                                      psc_clock_mono_us());
    struct psc_buf *out = &s->claim.facts;
    psc_buf_reset(out);
    put_boot_id(out, with_boot ? h->boot_id : NULL);
    put_fact(out, "os", h->os);
    put_fact(out, "os_version", h->os_version);
    put_fact(out, "os_build", h->os_build);
    put_fact(out, "agent_version", h->agent_version);
    put_fact(out, "role", h->role);
    put_fact(out, "region", h->region);
    put_fact(out, "peer", psc_conn_peer_name(&s->conn));
    psc_buf_printf(out, ",\"labels\":");
    decode_labels(h->labels, out);
    psc_buf_printf(out,
                   ",\"ram_bytes\":%" PRIu64 ",\"interval_us\":%" PRIu64
                   ",\"boot_at_us\":%" PRId64 ",\"clock_offset_us\":%" PRId64
                   "}",
                   h->ram_bytes & ((UINT64_C(1) << 50) - 1),
                   h->interval_us & ((UINT64_C(1) << 50) - 1), s->clock.boot_us,
                   s->clock.wall_us);
    psc_buf_u8(out, '\0');
}

/* A claim gave us the host: end its other session here, get ready. */
static bool take_over(struct session *s)
{
    struct sessions *all = s->all;
    struct host_slot *slot = hosts_get(&all->hosts, s->host_id);
    s->decode = slot != NULL ? calloc(1, sizeof(*s->decode)) : NULL;
    if (s->decode == NULL) {
        session_refuse(s, WIRE_REFUSAL_BUSY, "out of memory");
        return false;
    }
    if (slot->session != NULL) {
        session_refuse(slot->session, WIRE_REFUSAL_SUPERSEDED,
                       "a newer session of this host exists");
    }
    slot->session = s;
    s->slot = slot;
    heartbeat_begin(&slot->heartbeat, s->number, psc_clock_wall_us());
    s->queue.refused = &slot->refused;
    decode_init(s->decode, &slot->quota);
    s->decode->budget = &slot->budget;
    return true;
}

static void on_claimed(struct store_claim *r,
                       const struct pglink_failure *failure)
{
    struct session *s = r->user;
    if (!is_granted(s, failure, r->answer)) {
        return;
    }
    (void)snprintf(s->host, sizeof(s->host), "%s", r->host);
    s->number = r->session;
    clock_offset_init(&s->clock, r->offset_known, r->clock_offset_us);
    clock_offset_observe(&s->clock, s->hello_us, s->hello_wall_us,
                         s->hello_boottime_us);
    if (!take_over(s)) {
        return;
    }
    session_set_state(s, SESSION_READY);
    psc_conn_limit_frames(&s->conn, PSC_FRAME_MAX_BYTES);
    psc_conn_resume(&s->conn);
    psc_log_info("host %s (id %" PRId64 ") at %s: session %" PRId64, s->host,
                 s->host_id, psc_conn_peer_name(&s->conn), s->number);
    struct wire_message m = {.type = WIRE_WELCOME};
    m.welcome.protocol = WIRE_PROTOCOL_MAX;
    m.welcome.wall_us = psc_clock_wall_us();
    m.welcome.host = s->host;
    session_send(s, &m);
}

void session_take_hello(struct session *s, const struct wire_message *m)
{
    const struct wire_hello *h = &m->hello;
    if (h->protocol_min > WIRE_PROTOCOL_MAX ||
        h->protocol_max < WIRE_PROTOCOL_MIN) {
        session_refuse(s, WIRE_REFUSAL_PROTOCOL,
                       "the agent speaks protocol %u to %u, we %u to %u",
                       h->protocol_min, h->protocol_max, WIRE_PROTOCOL_MIN,
                       WIRE_PROTOCOL_MAX);
        return;
    }
    if (!check_certificate(s, false)) {
        return;
    }
    if (s->all->n_hosts >= s->all->max) {
        s->full = true;
        session_refuse(s, WIRE_REFUSAL_BUSY,
                       "this collector has its %u hosts (max_connections)",
                       s->all->max);
        return;
    }
    struct host_slot *slot = hosts_find(&s->all->hosts, s->host_id);
    if (slot != NULL &&
        refused_wait_us(&slot->refused, psc_clock_mono_us()) > 0) {
        char owner[SESSION_OWNER_BYTES];
        s->slot = slot;
        session_owner(s, owner);
        session_refuse(s, WIRE_REFUSAL_BUSY,
                       "the database refused what %s sent", owner);
        return;
    }
    s->hello_us = psc_clock_wall_us();
    s->hello_wall_us = h->wall_us;
    s->hello_boottime_us = h->boottime_us;
    memcpy(s->boot_id, h->boot_id, sizeof(s->boot_id));
    clock_offset_init(&s->clock, false, 0);
    clock_offset_observe(&s->clock, s->hello_us, h->wall_us, h->boottime_us);
    build_facts(s, h, slot);
    if (psc_buf_error(&s->claim.facts) != PSC_OK) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED, "the hello is too long");
        return;
    }
    session_set_state(s, SESSION_CLAIMING);
    session_set_deadline(s, DATABASE_DEADLINE_S * PSC_US_PER_S);
    s->hello_done = true;
    s->sent_ms = uv_now(s->all->loop);
    psc_conn_pause(&s->conn);
    s->claim.user = s;
    s->claim.on_done = on_claimed;
    s->claim.host_id = s->host_id;
    s->claim.not_before_us = s->not_before_us;
    s->n_requests++;
    store_claim(s->all->store, &s->claim);
}

/* ---- certificates ---- */

static void free_issue(struct session *s)
{
    if (s->issue != NULL) {
        psc_buf_fini(&s->issue->request);
        free(s->issue);
        s->issue = NULL;
    }
}

/* The store agrees: issue, send; a session that was only for this ends. */
static void issue_certificate(struct session *s, const char *host)
{
    struct psc_error err = {.msg = ""};
    struct psc_buf pem;
    psc_buf_init(&pem, CHAIN_MAX_BYTES);
    int rc = ca_issue(s->all->ca, psc_buf_bytes(&s->issue->request), s->host_id,
                      host, &pem, &err);
    if (rc == PSC_FORMAT) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED, "%s", err.msg);
    } else if (rc != PSC_OK) {
        psc_log_error("cannot issue a certificate: %s", err.msg);
        session_refuse(s, WIRE_REFUSAL_BUSY, "%s", err.msg);
    } else {
        psc_log_info("%s a certificate for host %s (id %" PRId64 ") at %s",
                     s->issue->renewal ? "renewed" : "issued", host, s->host_id,
                     psc_conn_peer_name(&s->conn));
        struct wire_message m = {.type = WIRE_CERTIFICATE};
        m.certificate.certificate = psc_buf_bytes(&pem);
        m.certificate.ca = psc_buf_bytes(&s->all->ca->bundle);
        m.certificate.host = host;
        session_send(s, &m);
    }
    psc_buf_fini(&pem);
    free_issue(s);
    if (s->state == SESSION_ENROLLING) {
        session_close(s, PSC_CLOSED, "certificate issued");
    }
}

static void on_enrolled(struct store_enrol *r,
                        const struct pglink_failure *failure)
{
    struct session *s = r->user;
    if (r->answer == STORE_DISABLED || r->answer == STORE_NAME_TAKEN) {
        /* Its token is good: what it calls itself may be repeated. */
        (void)snprintf(s->name, sizeof(s->name), "%s", r->name);
    }
    if (is_granted(s, failure, r->answer)) {
        metrics_add(s->all->metrics, enrolments, 1);
        s->host_id = r->host_id;
        issue_certificate(s, r->host);
    }
}

static void on_renewed(struct store_renew *r,
                       const struct pglink_failure *failure)
{
    struct session *s = r->user;
    if (is_granted(s, failure, r->answer)) {
        metrics_add(s->all->metrics, renewals, 1);
        issue_certificate(s, r->host);
    }
}

/* Take a copy of a well-formed request; refuses and returns false otherwise. */
static bool begin_issue(struct session *s, struct psc_bytes request,
                        uint8_t key_sha256[PSC_SHA256_BYTES])
{
    struct psc_error err = {.msg = ""};
    if (s->all->ca->key == NULL) {
        session_refuse(s, WIRE_REFUSAL_BUSY,
                       "this collector issues no certificates; try another");
        return false;
    }
    if (ca_request_key(request, key_sha256, &err) != PSC_OK) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED, "%s", err.msg);
        return false;
    }
    s->issue = calloc(1, sizeof(*s->issue));
    if (s->issue != NULL) {
        psc_buf_init(&s->issue->request, REQUEST_MAX_BYTES);
        psc_buf_append(&s->issue->request, request.data, request.len);
    }
    if (s->issue == NULL || psc_buf_error(&s->issue->request) != PSC_OK) {
        session_refuse(s, WIRE_REFUSAL_BUSY, "out of memory");
        return false;
    }
    return true;
}

/* Nothing else is read until the database has answered. */
static void wait_for_issue(struct session *s)
{
    session_set_state(s, SESSION_ENROLLING);
    session_set_deadline(s, DATABASE_DEADLINE_S * PSC_US_PER_S);
    psc_conn_pause(&s->conn);
}

/* Certificates begin an hour ago, in whole seconds: so does their validity. */
static int64_t valid_from_us(int64_t now_us)
{
    return (now_us / PSC_US_PER_S - CA_BACKDATE_S) * PSC_US_PER_S;
}

/* Cut, if it must be, between two characters: it is UTF-8 on the wire too. */
static void refuse_name(struct session *s, const char *name)
{
    size_t len = strnlen(name, SHOWN_NAME_BYTES);
    while (len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80) {
        len--;
    }
    session_refuse(s, WIRE_REFUSAL_HOST_NAME,
                   "\"%.*s\" cannot be a host's name: 1 to 253 letters, "
                   "digits, '.', '_' and '-', the first no '.' or '-'",
                   (int)len, name);
}

void session_take_enrol(struct session *s, const struct wire_message *m)
{
    bool expired;
    uint8_t key_sha256[PSC_SHA256_BYTES];
    if (psc_tls_peer(&s->conn.tls, &expired) != NULL) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED,
                       "enrolment is for those without a certificate");
        return;
    }
    if (m->enrol.secret.len != TOKEN_SECRET_BYTES) {
        session_refuse(s, WIRE_REFUSAL_TOKEN,
                       "the token's secret has %zu bytes, not %d",
                       m->enrol.secret.len, TOKEN_SECRET_BYTES);
        return;
    }
    if (!wire_is_host_name(m->enrol.host)) {
        refuse_name(s, m->enrol.host);
        return;
    }
    if (!begin_issue(s, m->enrol.request, key_sha256)) {
        return;
    }
    struct store_enrol *r = &s->issue->enrol;
    int64_t now_us = psc_clock_wall_us();
    (void)SHA256(m->enrol.secret.data, m->enrol.secret.len, r->secret_sha256);
    memcpy(r->key_sha256, key_sha256, sizeof(r->key_sha256));
    (void)snprintf(r->name, sizeof(r->name), "%s", m->enrol.host);
    (void)snprintf(r->os, sizeof(r->os), "%s",
                   wire_is_host_name(m->enrol.os) ? m->enrol.os : "");
    r->valid_from_us = valid_from_us(now_us);
    r->not_after_us = now_us + CA_HOST_VALID_S * PSC_US_PER_S;
    r->user = s;
    r->on_done = on_enrolled;
    wait_for_issue(s);
    s->n_requests++;
    store_enrol(s->all->store, r);
}

void session_take_renew(struct session *s, const struct wire_message *m)
{
    uint8_t key_sha256[PSC_SHA256_BYTES];
    if (s->issue != NULL) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED,
                       "a renewal while one is under way");
        return;
    }
    bool first = s->state == SESSION_FIRST_FRAME;
    if ((first && !check_certificate(s, true)) ||
        !begin_issue(s, m->renew.request, key_sha256)) {
        return;
    }
    struct store_renew *r = &s->issue->renew;
    s->issue->renewal = true;
    r->user = s;
    r->on_done = on_renewed;
    r->host_id = s->host_id;
    r->not_before_us = s->not_before_us;
    r->not_after_us = psc_clock_wall_us() + CA_HOST_VALID_S * PSC_US_PER_S;
    if (first) {
        wait_for_issue(s);
    }
    s->n_requests++;
    store_renew(s->all->store, r);
}

/* ---- the end ---- */

void session_drop_requests(struct session *s)
{
    struct store *store = s->all->store;
    s->n_requests -= store_withdraw(store, &s->claim.job) ? 1 : 0;
    s->n_requests -= store_withdraw(store, &s->stream_request.job) ? 1 : 0;
    if (s->issue != NULL) {
        s->n_requests -= store_withdraw(store, &s->issue->enrol.job) ? 1 : 0;
        s->n_requests -= store_withdraw(store, &s->issue->renew.job) ? 1 : 0;
    }
}
