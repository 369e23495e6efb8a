/* Messages to and from protobuf; no other file sees the generated code.
 *
 * Encoding fills generated structs that borrow the caller's pointers and packs
 * them straight into the buffer. Decoding unpacks into one arena that is
 * emptied before each message: an arena that proves too small is enlarged and
 * the frame unpacked again, up to the budget. Then everything that a peer
 * could have got wrong within a well-formed message is checked here, once:
 * lengths of ids, texts, labels. Fields that we do not know are skipped. */
#include "proto/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "poolscope.pb-c.h"

enum {
    ID_BYTES = 16,
    ARENA_ALIGN_BYTES = 16,
    ARENA_SLACK_BYTES = 4096, /* structs of a message beside its contents */
    HOST_NAME_MAX_BYTES = 253,
};

static const char *const refusal_names[] = {
    [WIRE_REFUSAL_UNSPECIFIED] = "unspecified",
    [WIRE_REFUSAL_PROTOCOL] = "no common protocol version",
    [WIRE_REFUSAL_UNKNOWN_HOST] = "unknown host",
    [WIRE_REFUSAL_DISABLED] = "host disabled",
    [WIRE_REFUSAL_EXPIRED] = "certificate expired",
    [WIRE_REFUSAL_TOKEN] = "bad token",
    [WIRE_REFUSAL_NO_CERTIFICATE] = "no certificate",
    [WIRE_REFUSAL_MALFORMED] = "protocol broken",
    [WIRE_REFUSAL_SUPERSEDED] = "superseded by a newer session",
    [WIRE_REFUSAL_BUSY] = "busy",
    [WIRE_REFUSAL_NAME_TAKEN] = "host name taken",
    [WIRE_REFUSAL_HOST_NAME] = "bad host name",
};
enum { N_REFUSALS = sizeof(refusal_names) / sizeof(refusal_names[0]) };

const char *wire_refusal_name(enum wire_refusal code)
{
    return (unsigned)code < N_REFUSALS ? refusal_names[code] : "?";
}

bool wire_is_host_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    size_t len = strlen(name);
    return len >= 1 && len <= HOST_NAME_MAX_BYTES && name[0] != '.' &&
           name[0] != '-' && strspn(name, allowed) == len;
}

/* --- encoding --- */

/* The generated structs of one message, borrowing what they point to. */
struct packing {
    Poolscope__V1__Envelope envelope;
    union {
        Poolscope__V1__Hello hello;
        Poolscope__V1__Welcome welcome;
        Poolscope__V1__Refusal refusal;
        Poolscope__V1__Batch batch;
        Poolscope__V1__Ack ack;
        Poolscope__V1__NeedKeyframe need_keyframe;
        Poolscope__V1__Heartbeat heartbeat;
        Poolscope__V1__Pulse pulse;
        Poolscope__V1__Enrol enrol;
        Poolscope__V1__Renew renew;
        Poolscope__V1__Certificate certificate;
        Poolscope__V1__Open open;
        Poolscope__V1__Cursor cursor;
    } body;
    Poolscope__V1__Columns tags, counters;
};

static char *text_out(const char *text)
{
    return (char *)(text != NULL ? text : protobuf_c_empty_string);
}

static ProtobufCBinaryData bytes_out(struct psc_bytes bytes)
{
    return (ProtobufCBinaryData){bytes.len, (uint8_t *)bytes.data};
}

static ProtobufCBinaryData id_out(const uint8_t *id)
{
    return (ProtobufCBinaryData){ID_BYTES, (uint8_t *)id};
}

static void fill_hello(struct packing *p, const struct wire_hello *m)
{
    Poolscope__V1__Hello *h = &p->body.hello;

    poolscope__v1__hello__init(h);
    h->protocol_min = m->protocol_min;
    h->protocol_max = m->protocol_max;
    h->agent_version = text_out(m->agent_version);
    h->os = text_out(m->os);
    h->os_version = text_out(m->os_version);
    h->os_build = text_out(m->os_build);
    h->boot_id = id_out(m->boot_id);
    h->boot_wall_us = m->boot_wall_us;
    h->wall_us = m->wall_us;
    h->boottime_us = m->boottime_us;
    h->ram_bytes = m->ram_bytes;
    h->role = text_out(m->role);
    h->region = text_out(m->region);
    h->labels = bytes_out(m->labels);
    h->interval_us = m->interval_us;
    p->envelope.hello = h;
}

static Poolscope__V1__Columns *fill_columns(Poolscope__V1__Columns *out,
                                            const struct columns *m)
{
    poolscope__v1__columns__init(out);
    out->keyframe = m->keyframe;
    out->base_seq = m->base_seq;
    out->names = bytes_out(m->names);
    out->gaps = bytes_out(m->gaps);
    out->gone = bytes_out(m->gone);
    out->values = bytes_out(m->values);
    return out;
}

static void fill_batch(struct packing *p, const struct wire_batch *m)
{
    Poolscope__V1__Batch *b = &p->body.batch;

    poolscope__v1__batch__init(b);
    b->seq = m->seq;
    b->wall_us = m->wall_us;
    b->boottime_us = m->boottime_us;
    b->boot_id = id_out(m->boot_id);
    b->more = m->more;
    b->part = m->part;
    if (m->has_tags) {
        b->tags = fill_columns(&p->tags, &m->tags);
    }
    if (m->has_counters) {
        b->counters = fill_columns(&p->counters, &m->counters);
    }
    b->drivers = bytes_out(m->drivers);
    b->aliases = bytes_out(m->aliases);
    b->events = bytes_out(m->events);
    b->sources = bytes_out(m->sources);
    b->missed_ticks = m->missed_ticks;
    p->envelope.batch = b;
}

static void fill_welcome(struct packing *p, const struct wire_welcome *m)
{
    Poolscope__V1__Welcome *w = &p->body.welcome;

    poolscope__v1__welcome__init(w);
    w->protocol = m->protocol;
    w->wall_us = m->wall_us;
    w->host = text_out(m->host);
    p->envelope.welcome = w;
}

static void fill_refusal(struct packing *p, const struct wire_message *m)
{
    Poolscope__V1__Refusal *r = &p->body.refusal;

    poolscope__v1__refusal__init(r);
    r->code = (Poolscope__V1__RefusalCode)m->refusal.code;
    r->reason = text_out(m->refusal.reason);
    r->retry_after_us = m->refusal.retry_after_us;
    p->envelope.refusal = r;
}

static void fill_heartbeat(struct packing *p, const struct wire_message *m)
{
    Poolscope__V1__Heartbeat *h = &p->body.heartbeat;

    poolscope__v1__heartbeat__init(h);
    h->wall_us = m->heartbeat.wall_us;
    h->boottime_us = m->heartbeat.boottime_us;
    h->spool_bytes = m->heartbeat.spool_bytes;
    h->dropped_batches = m->heartbeat.dropped_batches;
    h->last_seq = m->heartbeat.last_seq;
    p->envelope.heartbeat = h;
}

static void fill_enrol(struct packing *p, const struct wire_message *m)
{
    Poolscope__V1__Enrol *e = &p->body.enrol;

    poolscope__v1__enrol__init(e);
    e->secret = bytes_out(m->enrol.secret);
    e->request = bytes_out(m->enrol.request);
    e->host = text_out(m->enrol.host);
    e->os = text_out(m->enrol.os);
    p->envelope.enrol = e;
}

static void fill_certificate(struct packing *p, const struct wire_message *m)
{
    Poolscope__V1__Certificate *c = &p->body.certificate;

    poolscope__v1__certificate__init(c);
    c->certificate = bytes_out(m->certificate.certificate);
    c->ca = bytes_out(m->certificate.ca);
    c->host = text_out(m->certificate.host);
    p->envelope.certificate = c;
}

/* The messages of one or two fields. */
static void fill_small(struct packing *p, const struct wire_message *m)
{
    switch (m->type) {
    case WIRE_ACK:
        poolscope__v1__ack__init(&p->body.ack);
        p->body.ack.seq = m->ack.seq;
        p->envelope.ack = &p->body.ack;
        break;
    case WIRE_NEED_KEYFRAME:
        poolscope__v1__need_keyframe__init(&p->body.need_keyframe);
        p->body.need_keyframe.seq = m->need_keyframe.seq;
        p->envelope.need_keyframe = &p->body.need_keyframe;
        break;
    case WIRE_PULSE:
        poolscope__v1__pulse__init(&p->body.pulse);
        p->body.pulse.wall_us = m->pulse.wall_us;
        p->envelope.pulse = &p->body.pulse;
        break;
    case WIRE_RENEW:
        poolscope__v1__renew__init(&p->body.renew);
        p->body.renew.request = bytes_out(m->renew.request);
        p->envelope.renew = &p->body.renew;
        break;
    case WIRE_OPEN:
        poolscope__v1__open__init(&p->body.open);
        p->body.open.stream = id_out(m->open.stream);
        p->body.open.dropped_batches = m->open.dropped_batches;
        p->envelope.open = &p->body.open;
        break;
    case WIRE_CURSOR:
        poolscope__v1__cursor__init(&p->body.cursor);
        p->body.cursor.stream = id_out(m->cursor.stream);
        p->body.cursor.seq = m->cursor.seq;
        p->envelope.cursor = &p->body.cursor;
        break;
    default: assert(false && "a type that no message has"); break;
    }
}

static void fill(struct packing *p, const struct wire_message *m)
{
    poolscope__v1__envelope__init(&p->envelope);
    p->envelope.body_case = (Poolscope__V1__Envelope__BodyCase)m->type;
    switch (m->type) {
    case WIRE_HELLO: fill_hello(p, &m->hello); break;
    case WIRE_WELCOME: fill_welcome(p, &m->welcome); break;
    case WIRE_REFUSAL: fill_refusal(p, m); break;
    case WIRE_BATCH: fill_batch(p, &m->batch); break;
    case WIRE_HEARTBEAT: fill_heartbeat(p, m); break;
    case WIRE_ENROL: fill_enrol(p, m); break;
    case WIRE_CERTIFICATE: fill_certificate(p, m); break;
    default: fill_small(p, m); break;
    }
}

void wire_encode(const struct wire_message *message, struct psc_buf *out)
{
    struct packing p;

    fill(&p, message);
    size_t size = poolscope__v1__envelope__get_packed_size(&p.envelope);
    if (psc_buf_reserve(out, size) != PSC_OK) {
        return;
    }
    out->len +=
        poolscope__v1__envelope__pack(&p.envelope, out->data + out->len);
}

/* --- unpacking within the budget --- */

struct arena_use {
    struct wire_decoder *d;
    bool full; /* something did not fit */
};

static void *take(void *data, size_t size)
{
    struct arena_use *use = data;
    struct wire_decoder *d = use->d;
    size_t rounded =
        (size + ARENA_ALIGN_BYTES - 1) & ~(size_t)(ARENA_ALIGN_BYTES - 1);

    if (rounded < size || rounded > d->cap - d->used) {
        use->full = true;
        return NULL;
    }
    void *memory = d->arena + d->used;
    d->used += rounded;
    return memory;
}

/* The arena is emptied as a whole. */
static void release(void *data, void *memory)
{
    (void)data;
    (void)memory;
}

void wire_decoder_init(struct wire_decoder *d)
{
    *d = (struct wire_decoder){.arena = NULL};
}

void wire_decoder_fini(struct wire_decoder *d)
{
    free(d->arena);
    wire_decoder_init(d);
}

/* Make the arena @want bytes or more; its contents are lost. */
static int enlarge(struct wire_decoder *d, size_t want)
{
    size_t cap = ARENA_SLACK_BYTES;
    while (cap < want) {
        cap *= 2;
    }
    if (cap <= d->cap) {
        return PSC_OK;
    }
    wire_decoder_fini(d);
    d->arena = malloc(cap);
    if (d->arena == NULL) {
        return PSC_NOMEM;
    }
    d->cap = cap;
    return PSC_OK;
}

/* Returns NULL and the reason in *@rc if the frame cannot be unpacked. */
static Poolscope__V1__Envelope *unpack(struct wire_decoder *d,
                                       struct psc_bytes frame, int *rc,
                                       struct psc_error *err)
{
    struct arena_use use = {.d = d};
    ProtobufCAllocator allocator = {take, release, &use};
    size_t want = frame.len + ARENA_SLACK_BYTES;

    while (frame.len <= WIRE_UNPACK_BUDGET_BYTES &&
           want <= WIRE_UNPACK_BUDGET_BYTES) {
        *rc = enlarge(d, want);
        if (*rc != PSC_OK) {
            (void)psc_error_set(err, *rc, "no memory to unpack a message");
            return NULL;
        }
        d->used = 0;
        use.full = false;
        Poolscope__V1__Envelope *envelope =
            poolscope__v1__envelope__unpack(&allocator, frame.len, frame.data);
        if (envelope != NULL) {
            return envelope;
        }
        if (!use.full) {
            *rc = psc_error_set(err, PSC_FORMAT, "not a protobuf message");
            return NULL;
        }
        want = d->cap * 2;
    }
    *rc = psc_error_set(err, PSC_LIMIT,
                        "a message that unpacks into more than %zu bytes",
                        WIRE_UNPACK_BUDGET_BYTES);
    return NULL;
}

/* --- checking --- */

/* A decoding in progress: the first thing that is wrong stays. */
struct check {
    int rc;
    struct psc_error *err;
};

static void reject(struct check *c, const char *field, const char *what)
{
    if (c->rc == PSC_OK) {
        c->rc = psc_error_set(c->err, PSC_FORMAT, "%s %s", field, what);
    }
}

/* Length of the UTF-8 sequence at @s of at most @len bytes, 0 if it is none:
 * shortest forms only, no surrogates, nothing beyond U+10FFFF. */
static size_t utf8_sequence(const uint8_t *s, size_t len)
{
    uint8_t first = s[0];
    size_t n = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    if (n == 1) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4 || len < n) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool bad = (first == 0xe0 && s[1] < 0xa0) ||
               (first == 0xed && s[1] > 0x9f) ||
               (first == 0xf0 && s[1] < 0x90) || (first == 0xf4 && s[1] > 0x8f);
    return bad ? 0 : n;
}

static bool text_is_valid(const uint8_t *text, size_t len)
{
    if (len > WIRE_TEXT_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < len;) {
        size_t n = text[i] != 0 ? utf8_sequence(text + i, len - i) : 0;
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

static const char *text_in(struct check *c, const char *field, const char *text)
{
    if (!text_is_valid((const uint8_t *)text,
                       strnlen(text, WIRE_TEXT_MAX_BYTES + 1))) {
        reject(c, field, "is too long or not UTF-8");
        return "";
    }
    return text;
}

static struct psc_bytes bytes_in(ProtobufCBinaryData data)
{
    return (struct psc_bytes){data.data, data.len};
}

static void id_in(struct check *c, const char *field, ProtobufCBinaryData data,
                  uint8_t id[ID_BYTES])
{
    if (data.len != ID_BYTES) {
        reject(c, field, "is not 16 bytes");
        return;
    }
    memcpy(id, data.data, ID_BYTES);
}

/* Pairs of name and value. */
static struct psc_bytes labels_in(struct check *c, ProtobufCBinaryData data)
{
    struct psc_bytes labels = bytes_in(data);
    struct psc_reader r;
    psc_reader_init(&r, labels);
    unsigned n = 0;

    for (; psc_reader_left(&r) > 0 && n <= 2 * WIRE_LABELS_MAX; n++) {
        struct psc_bytes text = psc_read_string(&r);
        if (r.failed || !text_is_valid(text.data, text.len)) {
            reject(c, "labels", "are not UTF-8 texts");
            return labels;
        }
    }
    if (n % 2 != 0 || n > 2 * WIRE_LABELS_MAX) {
        reject(c, "labels", "are too many or no pairs");
    }
    return labels;
}

static void read_hello(struct check *c, const Poolscope__V1__Hello *h,
                       struct wire_hello *out)
{
    *out = (struct wire_hello){
        .protocol_min = h->protocol_min,
        .protocol_max = h->protocol_max,
        .agent_version = text_in(c, "agent_version", h->agent_version),
        .os = text_in(c, "os", h->os),
        .os_version = text_in(c, "os_version", h->os_version),
        .os_build = text_in(c, "os_build", h->os_build),
        .boot_wall_us = h->boot_wall_us,
        .wall_us = h->wall_us,
        .boottime_us = h->boottime_us,
        .ram_bytes = h->ram_bytes,
        .role = text_in(c, "role", h->role),
        .region = text_in(c, "region", h->region),
        .labels = labels_in(c, h->labels),
        .interval_us = h->interval_us,
    };
    id_in(c, "boot_id", h->boot_id, out->boot_id);
}

static bool read_columns(const Poolscope__V1__Columns *in, struct columns *out)
{
    if (in == NULL) {
        *out = (struct columns){.keyframe = false};
        return false;
    }
    *out = (struct columns){
        .keyframe = in->keyframe != 0,
        .base_seq = in->base_seq,
        .names = bytes_in(in->names),
        .gaps = bytes_in(in->gaps),
        .gone = bytes_in(in->gone),
        .values = bytes_in(in->values),
    };
    return true;
}

static void read_batch(struct check *c, const Poolscope__V1__Batch *b,
                       struct wire_batch *out)
{
    *out = (struct wire_batch){
        .seq = b->seq,
        .wall_us = b->wall_us,
        .boottime_us = b->boottime_us,
        .more = b->more != 0,
        .part = b->part,
        .drivers = bytes_in(b->drivers),
        .events = bytes_in(b->events),
        .sources = bytes_in(b->sources),
        .aliases = bytes_in(b->aliases),
        .missed_ticks = b->missed_ticks,
    };
    id_in(c, "boot_id", b->boot_id, out->boot_id);
    out->has_tags = read_columns(b->tags, &out->tags);
    out->has_counters = read_columns(b->counters, &out->counters);
}

static void read_refusal(struct check *c, const Poolscope__V1__Refusal *r,
                         struct wire_message *out)
{
    /* A code of a later version still is a refusal. */
    unsigned code = (unsigned)r->code;
    out->refusal.code =
        code < N_REFUSALS ? (enum wire_refusal)code : WIRE_REFUSAL_UNSPECIFIED;
    out->refusal.reason = text_in(c, "reason", r->reason);
    out->refusal.retry_after_us = r->retry_after_us;
}

static void read_heartbeat(const Poolscope__V1__Heartbeat *h,
                           struct wire_message *out)
{
    out->heartbeat.wall_us = h->wall_us;
    out->heartbeat.boottime_us = h->boottime_us;
    out->heartbeat.spool_bytes = h->spool_bytes;
    out->heartbeat.dropped_batches = h->dropped_batches;
    out->heartbeat.last_seq = h->last_seq;
}

static void read_enrolment(struct check *c, const Poolscope__V1__Envelope *e,
                           struct wire_message *out)
{
    if (out->type == WIRE_ENROL) {
        out->enrol.secret = bytes_in(e->enrol->secret);
        out->enrol.request = bytes_in(e->enrol->request);
        out->enrol.host = text_in(c, "host", e->enrol->host);
        out->enrol.os = text_in(c, "os", e->enrol->os);
    } else if (out->type == WIRE_RENEW) {
        out->renew.request = bytes_in(e->renew->request);
    } else {
        out->certificate.certificate = bytes_in(e->certificate->certificate);
        out->certificate.ca = bytes_in(e->certificate->ca);
        out->certificate.host = text_in(c, "host", e->certificate->host);
    }
}

static void read_body(struct check *c, const Poolscope__V1__Envelope *e,
                      struct wire_message *out)
{
    switch (out->type) {
    case WIRE_HELLO: read_hello(c, e->hello, &out->hello); break;
    case WIRE_WELCOME:
        out->welcome.protocol = e->welcome->protocol;
        out->welcome.wall_us = e->welcome->wall_us;
        out->welcome.host = text_in(c, "host", e->welcome->host);
        break;
    case WIRE_REFUSAL: read_refusal(c, e->refusal, out); break;
    case WIRE_BATCH: read_batch(c, e->batch, &out->batch); break;
    case WIRE_ACK: out->ack.seq = e->ack->seq; break;
    case WIRE_NEED_KEYFRAME:
        out->need_keyframe.seq = e->need_keyframe->seq;
        break;
    case WIRE_HEARTBEAT: read_heartbeat(e->heartbeat, out); break;
    case WIRE_PULSE: out->pulse.wall_us = e->pulse->wall_us; break;
    case WIRE_ENROL:
    case WIRE_RENEW:
    case WIRE_CERTIFICATE: read_enrolment(c, e, out); break;
    case WIRE_OPEN:
        id_in(c, "stream", e->open->stream, out->open.stream);
        out->open.dropped_batches = e->open->dropped_batches;
        break;
    case WIRE_CURSOR:
        id_in(c, "stream", e->cursor->stream, out->cursor.stream);
        out->cursor.seq = e->cursor->seq;
        break;
    default: reject(c, "the message", "is of no known type"); break;
    }
}

int wire_decode(struct wire_decoder *d, struct psc_bytes frame,
                struct wire_message *out, struct psc_error *err)
{
    int rc = PSC_OK;
    Poolscope__V1__Envelope *envelope = unpack(d, frame, &rc, err);
    if (envelope == NULL) {
        return rc;
    }
    struct check check = {.rc = PSC_OK, .err = err};
    *out = (struct wire_message){.type = (enum wire_type)envelope->body_case};
    read_body(&check, envelope, out);
    return check.rc;
}
