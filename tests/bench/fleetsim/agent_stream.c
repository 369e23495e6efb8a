/* What a simulated agent says on an open connection.
 *
 * Happy path: Hello -> Welcome -> Open -> Cursor -> samples as they are due, a
 * heartbeat now and then. A new life (a reboot, the end of a silence) opens a
 * stream of its own once the one before is acknowledged; after a reboot in a
 * connection of its own too, since a hello tells the boot. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "agent/uplink.h"
#include "common/clock.h"
#include "common/log.h"
#include "tests/bench/fleetsim/agent.h"
#include "tests/bench/fleetsim/truth_hash.h"

enum {
    QUEUE_LOW_BYTES = 64 << 10, /* send on when so little waits */
    SLOW_SNAPSHOTS = 8,         /* that slow hosts deliver together */
};

static bool is_history(const struct sim_agent *a)
{
    return a->fleet->run->history;
}

static bool send_message(struct sim_agent *a, const struct wire_message *m)
{
    struct psc_buf *frame = &a->fleet->frame;
    psc_buf_reset(frame);
    wire_encode(m, frame);
    int rc = psc_buf_error(frame);
    if (rc == PSC_OK) {
        rc = psc_conn_send(&a->conn, psc_buf_bytes(frame));
    }
    if (rc != PSC_OK) {
        sim_agent_close(a, rc, "cannot send");
    }
    return rc == PSC_OK;
}

/* --- streams --- */

void sim_agent_begin_life(struct sim_agent *a)
{
    uint64_t run = hash_mix((uint64_t)a->fleet->run->start_us);
    a->fleet->stats.reboots += a->n_lives > 0 ? 1 : 0;
    a->stream = hash_draw(a->host.key, DRAW_STREAM, a->n_lives++, run);
    truth_boot_at(&a->host, a->next_k, &a->boot);
    a->life_first = a->next_k;
    a->next_seq = 1;
    a->acked_seq = 0;
    a->new_life = false;
}

static void open_stream(struct sim_agent *a)
{
    struct wire_message m = {.type = WIRE_OPEN};
    memcpy(m.open.stream, &a->stream, sizeof(a->stream));
    uint64_t rest = hash_mix(a->stream);
    memcpy(m.open.stream + sizeof(a->stream), &rest, sizeof(rest));
    if (a->state != SIM_OPENING) {
        sim_agent_set_state(a, SIM_OPENING);
    }
    (void)send_message(a, &m);
}

/* The boot in which the host is now, and when it began. Of a history all was
 * in earlier boots. */
static int64_t present_boot(struct sim_agent *a, int64_t now_us,
                            struct truth_boot *boot)
{
    if (is_history(a)) {
        *boot = (struct truth_boot){.number = UINT64_MAX};
        uint64_t run = hash_mix((uint64_t)a->fleet->run->start_us);
        for (unsigned i = 0; i < 2; i++) {
            uint64_t half = hash_draw(a->host.key, DRAW_BOOT_ID, 2 + i, run);
            memcpy(boot->id + 8 * i, &half, sizeof(half));
        }
        return a->booted_us;
    }
    const struct state_run *run = a->fleet->run;
    int64_t passed_us = now_us - run->start_us - truth_phase_us(&a->host);
    uint64_t k = run->first;
    if (passed_us > 0) {
        k += (uint64_t)(passed_us / a->host.truth->s.interval_us);
    }
    truth_boot_at(&a->host, k, boot);
    int64_t booted_us = state_boot_us(&a->fleet->state, &a->host, boot);
    return booted_us < now_us ? booted_us : now_us - 1;
}

void sim_agent_say_hello(struct sim_agent *a)
{
    struct wire_message m = {.type = WIRE_HELLO};
    int64_t now_us = psc_clock_wall_us();
    struct truth_boot boot;
    int64_t booted_us = present_boot(a, now_us, &boot);
    a->hello_boot = boot.number;
    psc_log_debug("host %u: boot %" PRIu64 " since %" PRId64
                  ", next snapshot %" PRIu64 " of boot %" PRIu64,
                  a->host.number, boot.number, booted_us, a->next_k,
                  a->boot.number);
    m.hello = (struct wire_hello){
        .protocol_min = WIRE_PROTOCOL_MIN,
        .protocol_max = WIRE_PROTOCOL_MAX,
        .agent_version = PSC_VERSION,
        .os = a->host.windows ? "windows" : "linux",
        .os_version = a->host.windows ? "Windows Server 2022" : "Debian 12",
        .os_build = a->host.windows ? "10.0.20348.2113" : "6.1.0-18-amd64",
        .boot_wall_us = booted_us,
        .wall_us = now_us,
        .boottime_us = now_us - booted_us,
        .ram_bytes = (uint64_t)truth_ram(&a->host),
        .role = "simulated",
        .region = "",
        .interval_us = (uint64_t)a->host.truth->s.interval_us,
    };
    memcpy(m.hello.boot_id, boot.id, sizeof(m.hello.boot_id));
    (void)send_message(a, &m);
}

static void take_cursor(struct sim_agent *a, uint64_t seq)
{
    struct fleet *f = a->fleet;
    if (a->state != SIM_OPENING) {
        sim_agent_close(a, PSC_FORMAT, "a Cursor that was not asked for");
        return;
    }
    if (seq < a->acked_seq) {
        f->stats.lost += a->acked_seq - seq;
        psc_log_error("host %u: batches %" PRIu64 " to %" PRIu64
                      " were acknowledged, and are not there",
                      a->host.number, seq + 1, a->acked_seq);
        seq = a->acked_seq;
    }
    sim_sent_stored(a, seq, true);
    a->next_seq = seq + 1;
    if (a->n_sent > 0) {
        f->stats.repeated += a->n_sent;
        a->next_k = sim_sent_at(a, 0)->k;
        a->new_life = false;
        a->n_sent = 0;
    }
    if (a->dropped_us != 0) {
        times_add(&f->stats.reconnect, psc_clock_mono_us() - a->dropped_us);
        a->dropped_us = 0;
    }
    a->round = 0;
    a->want_keyframe = true;
    sim_agent_set_state(a, SIM_LIVE);
    sim_agent_pump(a);
}

/* --- sending --- */

static int on_batch(void *user, struct psc_bytes frame)
{
    struct sim_agent *a = user;
    a->fleet->stats.batches++;
    a->fleet->stats.bytes += frame.len;
    return psc_conn_send(&a->conn, frame);
}

static int64_t thread_cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool send_sample(struct sim_agent *a)
{
    struct fleet *f = a->fleet;
    int64_t wall_us = state_time_us(&f->state, &a->host, a->next_k);
    struct encode_order order = {
        .host = &a->host,
        .boot = &a->boot,
        .k = a->next_k,
        .seq = a->next_seq,
        .keyframe = a->want_keyframe,
        .with_drivers = a->next_k == a->life_first,
        .wall_us = wall_us,
        .boot_us = wall_us - state_boot_us(&f->state, &a->host, &a->boot),
        .on_batch = on_batch,
        .user = a,
    };
    int64_t start_us = psc_clock_mono_us();
    int64_t cpu_ns = thread_cpu_ns();
    int rc = encoder_take(&f->encoder, &a->position, &order);
    f->stats.encode_ns += thread_cpu_ns() - cpu_ns;
    const struct sim_sent sent = {order.seq - 1, a->next_k, start_us};
    if (rc == PSC_OK) {
        rc = sim_sent_add(a, &sent);
    }
    if (rc != PSC_OK) {
        sim_agent_close(a, rc, "cannot send a sample");
        return false;
    }
    f->stats.samples++;
    f->stats.cells += a->position.n;
    f->stats.changed += order.changed;
    f->stats.values += order.values;
    f->stats.keyframes += a->position.delta_bytes == 0 ? 1 : 0;
    a->next_seq = order.seq;
    a->next_k++;
    a->want_keyframe = false;
    return true;
}

static void beat(struct sim_agent *a)
{
    struct wire_message m = {.type = WIRE_HEARTBEAT};
    struct truth_boot boot;
    int64_t now_us = psc_clock_wall_us();
    int64_t booted_us = present_boot(a, now_us, &boot);
    a->beat_us = psc_clock_mono_us();
    if (boot.number != a->hello_boot) {
        return; /* the clock of a boot that this session knows nothing of */
    }
    m.heartbeat.wall_us = now_us;
    m.heartbeat.boottime_us = now_us - booted_us;
    m.heartbeat.last_seq = a->next_seq - 1;
    (void)send_message(a, &m);
}

/* Sleep until @due_us (wall clock), but not longer than heartbeats allow. */
static void sleep_until(struct sim_agent *a, int64_t due_us)
{
    int64_t pace_us = uplink_default_pace.heartbeat_ms * 1000;
    int64_t left_us =
        due_us == INT64_MAX ? INT64_MAX : due_us - psc_clock_wall_us();
    int64_t beat_us = a->beat_us + pace_us * 5 / 4 - psc_clock_mono_us();
    sim_agent_sleep(a, left_us < beat_us ? left_us : beat_us);
}

/* Disconnect until the next snapshot is due; a slow host for longer. */
static void go_away(struct sim_agent *a)
{
    struct fleet *f = a->fleet;
    uint64_t late = a->next_k + (a->host.slow ? SLOW_SNAPSHOTS - 1 : 0);
    a->wake_us = fleet_due_us(f, &a->host, late);
    if (a->wake_us == INT64_MAX) {
        a->wake_us = fleet_due_us(f, &a->host, a->next_k);
    }
    sim_agent_close(a, PSC_CLOSED, "nothing to say for a while");
}

/* The next snapshot begins a life of its own, and all before it is stored. */
static void change_life(struct sim_agent *a)
{
    sim_agent_begin_life(a);
    if (a->hello_boot >= a->boot.number) {
        open_stream(a);
    } else {
        sim_agent_close(a, PSC_CLOSED, "a reboot");
    }
}

/* Whether the next snapshot is to be sent now; else what comes instead is
 * arranged for. */
static bool settle_next(struct sim_agent *a)
{
    struct fleet *f = a->fleet;
    struct truth_boot boot;
    if (sim_agent_is_done(a)) { /* else next_k is beyond any silence */
        sim_agent_close(a, PSC_CLOSED, "all is sent");
        return false;
    }
    int64_t due_us = fleet_due_us(f, &a->host, a->next_k);
    if (due_us == INT64_MAX) {
        sleep_until(a, INT64_MAX); /* for the last acknowledgements */
        return false;
    }
    truth_boot_at(&a->host, a->next_k, &boot);
    bool changes = a->new_life || boot.number != a->boot.number;
    bool away = a->new_life || (a->host.slow && !is_history(a));
    if (due_us > psc_clock_wall_us()) {
        if (a->behind_us != 0 && a->n_sent == 0) {
            times_add(&f->stats.caught_up, psc_clock_mono_us() - a->behind_us);
            a->behind_us = 0;
        }
        if (away && a->n_sent == 0) {
            go_away(a);
        } else {
            sleep_until(a, due_us);
        }
        return false;
    }
    if (changes && a->n_sent > 0) {
        sleep_until(a, INT64_MAX);
        return false;
    }
    if (changes) {
        change_life(a);
        return false;
    }
    if (a->hello_boot < boot.number) { /* it has rebooted meanwhile */
        sim_agent_close(a, PSC_CLOSED, "a reboot");
        return false;
    }
    return true;
}

void sim_agent_pump(struct sim_agent *a)
{
    int64_t pace_us = uplink_default_pace.heartbeat_ms * 1000;
    if (a->state != SIM_LIVE) {
        return;
    }
    psc_conn_cork(&a->conn);
    if (psc_clock_mono_us() - a->beat_us >= pace_us * 9 / 10) {
        beat(a);
    }
    while (a->state == SIM_LIVE && settle_next(a)) {
        if (a->n_sent >= (uint32_t)a->fleet->options->window ||
            psc_conn_queued(&a->conn) > QUEUE_LOW_BYTES) {
            sleep_until(a, INT64_MAX);
            break;
        }
        if (!send_sample(a)) {
            break;
        }
    }
    psc_conn_uncork(&a->conn);
}

/* --- answers --- */

static void take_refusal(struct sim_agent *a, const struct wire_message *m)
{
    a->fleet->stats.refusals++;
    a->retry_ms = (int64_t)(m->refusal.retry_after_us / 1000);
    if (a->retry_ms == 0 && m->refusal.code != WIRE_REFUSAL_BUSY) {
        a->retry_ms = uplink_default_pace.backoff_max_ms;
    }
    psc_log_warn("host %u: refused: %s (%s)", a->host.number, m->refusal.reason,
                 wire_refusal_name(m->refusal.code));
    a->dropped_us = a->dropped_us != 0 ? a->dropped_us : psc_clock_mono_us();
    sim_agent_close(a, PSC_REFUSED, m->refusal.reason);
}

static void take_ack(struct sim_agent *a, uint64_t seq)
{
    if (a->state == SIM_LIVE) {
        sim_sent_stored(a, seq, false);
        sim_agent_pump(a);
    }
}

void sim_agent_frame(struct sim_agent *a, struct psc_bytes frame)
{
    struct wire_message m;
    struct psc_error err = {.msg = ""};
    if (a->state == SIM_CLOSING) {
        return;
    }
    int rc = wire_decode(&a->fleet->decoder, frame, &m, &err);
    if (rc != PSC_OK) {
        sim_agent_close(a, rc, err.msg);
        return;
    }
    switch ((int)m.type) {
    case WIRE_WELCOME: open_stream(a); break;
    case WIRE_CURSOR: take_cursor(a, m.cursor.seq); break;
    case WIRE_ACK: take_ack(a, m.ack.seq); break;
    case WIRE_NEED_KEYFRAME:
        a->fleet->stats.need_keyframes++;
        open_stream(a);
        break;
    case WIRE_REFUSAL: take_refusal(a, &m); break;
    case WIRE_PULSE: break;
    default: sim_agent_close(a, PSC_FORMAT, "a message of no collector"); break;
    }
}
