/* Running the sources. */
#include "agent/collect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "common/log.h"

enum {
    STATES_MAX_BYTES = 64 * 1024,
    EVERY_MAX = 60,    /* a slow source still has its say */
    SLOW_IN_A_ROW = 2, /* once may be chance, or a cold cache */
};

static int64_t process_cpu_us(void)
{
    uv_rusage_t usage;
    if (uv_getrusage(&usage) != 0) {
        return 0;
    }
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL +
           usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* --- what the collector is told --- */

static void set_health(struct collect *c, struct collect_slot *slot,
                       enum source_state health, const char *message)
{
    if (slot->health == health && strcmp(slot->message, message) == 0) {
        return;
    }
    if (slot->health != health || slot->n_runs == 0) {
        psc_log(
            health == SOURCE_OK || health == SOURCE_UNAVAILABLE ? PSC_LOG_INFO
                                                                : PSC_LOG_WARN,
            "source %s: %s%s%s", slot->source->name, source_state_name(health),
            message[0] == '\0' ? "" : ": ", message);
    }
    slot->health = health;
    (void)snprintf(slot->message, sizeof(slot->message), "%s", message);
    c->states_changed = true;
}

static void put_state(struct psc_buf *out, const char *name,
                      enum source_state state, const char *message)
{
    struct source_record r = {
        .name = {(const uint8_t *)name, strlen(name)},
        .state = state,
        .message = {(const uint8_t *)message, strlen(message)},
    };
    record_put_source(out, &r);
}

static void build_states(struct collect *c)
{
    psc_buf_reset(&c->states);
    record_list_begin(&c->states);
    for (unsigned i = 0; i < c->n_slots; i++) {
        const struct collect_slot *slot = &c->slots[i];
        put_state(&c->states, slot->source->name, slot->health, slot->message);
    }
    put_state(&c->states, "spool",
              c->spool_trouble[0] == '\0' ? SOURCE_OK : SOURCE_FAILING,
              c->spool_trouble);
}

void collect_set_spool(struct collect *c, const char *trouble)
{
    const char *text = trouble == NULL ? "" : trouble;
    if (strcmp(c->spool_trouble, text) != 0) {
        (void)snprintf(c->spool_trouble, sizeof(c->spool_trouble), "%s", text);
        c->states_changed = true;
        build_states(c);
    }
}

/* --- one source --- */

static void open_source(struct collect *c, struct collect_slot *slot)
{
    struct psc_error err = {.msg = ""};
    int rc = slot->source->open(&c->env, &slot->state, &err);
    if (rc != PSC_OK) {
        slot->open = false;
        set_health(c, slot, SOURCE_UNAVAILABLE, err.msg);
        return;
    }
    slot->open = true;
    slot->every = 1;
    slot->skipped = 0;
    slot->n_slow = 0;
    set_health(c, slot, SOURCE_OK, "");
}

static void close_source(struct collect_slot *slot)
{
    if (slot->open && slot->source->close != NULL) {
        slot->source->close(slot->state);
    }
    slot->open = false;
    slot->state = NULL;
}

/* Sample a source that has become too dear less often, and one that has
 * become cheap again at every tick. */
static void judge_cost(struct collect *c, struct collect_slot *slot)
{
    if (slot->source->group == SOURCE_DRIVERS || slot->n_runs == 1) {
        return; /* rare anyway; and the first time is always slow */
    }
    slot->n_slow = slot->cost_us > COLLECT_SLOW_US ? slot->n_slow + 1 : 0;
    int64_t want = slot->cost_us / COLLECT_SLOW_US + 1;
    unsigned every = want < EVERY_MAX ? (unsigned)want : EVERY_MAX;
    if (slot->n_slow >= SLOW_IN_A_ROW && every > slot->every) {
        slot->every = every;
    } else if (slot->n_slow == 0 && slot->every > 1 &&
               slot->cost_us < COLLECT_SLOW_US * 4 / 5) {
        slot->every = 1;
    } else if (slot->health == SOURCE_OK || slot->health == SOURCE_SLOW) {
        return;
    }
    char message[sizeof(slot->message)] = "";
    if (slot->every > 1) {
        (void)snprintf(message, sizeof(message),
                       "takes %" PRId64 " ms; sampled at every %uth tick",
                       slot->cost_us / 1000, slot->every);
    }
    set_health(c, slot, slot->every > 1 ? SOURCE_SLOW : SOURCE_OK, message);
}

static void run_source(struct collect *c, struct collect_slot *slot,
                       uint8_t index)
{
    struct psc_error err = {.msg = ""};
    c->sample.source = index;
    int64_t before = c->cpu_us();
    int rc = slot->source->collect(slot->state, &c->sample, &err);
    slot->cost_us = c->cpu_us() - before;
    slot->skipped = 0;
    if (rc != PSC_OK) {
        set_health(c, slot, SOURCE_FAILING, err.msg);
        c->inventory_whole =
            c->inventory_whole && slot->source->group != SOURCE_DRIVERS;
        return;
    }
    slot->n_runs += slot->n_runs < 2;
    judge_cost(c, slot);
}

static void hold_source(struct collect *c, uint8_t index)
{
    table_hold(&c->sample.tags, index);
    table_hold(&c->sample.counters, index);
}

static bool is_due(struct collect_slot *slot, unsigned due)
{
    if (slot->source->group == SOURCE_EVENTS) {
        return (due & 1u << SOURCE_EVENTS) != 0;
    }
    if ((due & 1u << slot->source->group) == 0) {
        return false;
    }
    slot->skipped++;
    return slot->skipped >= slot->every;
}

/* --- all of them --- */

int collect_init(struct collect *c, const struct source *const *sources,
                 const struct source_env *env, struct psc_error *err)
{
    memset(c, 0, sizeof(*c));
    sample_init(&c->sample);
    psc_buf_init(&c->states, STATES_MAX_BYTES);
    c->env = *env;
    c->cpu_us = process_cpu_us;
    if (source_shared_new(&c->env.shared) != PSC_OK) {
        collect_fini(c);
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    for (; sources[c->n_slots] != NULL; c->n_slots++) {
        if (c->n_slots == COLLECT_MAX_SOURCES) {
            collect_fini(c);
            return psc_error_set(err, PSC_LIMIT, "more than %u sources",
                                 COLLECT_MAX_SOURCES);
        }
        struct collect_slot *slot = &c->slots[c->n_slots];
        slot->source = sources[c->n_slots];
        slot->every = 1;
        open_source(c, slot);
    }
    c->states_changed = true;
    build_states(c);
    return PSC_OK;
}

void collect_fini(struct collect *c)
{
    for (unsigned i = 0; i < c->n_slots; i++) {
        close_source(&c->slots[i]);
    }
    c->n_slots = 0;
    source_shared_free(c->env.shared);
    c->env.shared = NULL;
    psc_buf_fini(&c->states);
    sample_fini(&c->sample);
}

/* What could not run, or fails, may work by now. */
static void reopen_broken(struct collect *c)
{
    for (unsigned i = 0; i < c->n_slots; i++) {
        struct collect_slot *slot = &c->slots[i];
        if (slot->open && slot->health == SOURCE_FAILING) {
            close_source(slot);
        }
        if (!slot->open) {
            open_source(c, slot);
        }
    }
}

void collect_run(struct collect *c, unsigned due)
{
    bool changed_before = c->states_changed;
    c->states_changed = false;
    table_begin(&c->sample.tags);
    table_begin(&c->sample.counters);
    if (c->events_kept) {
        due &= ~(1u << SOURCE_EVENTS);
    } else {
        due |= 1u << SOURCE_EVENTS;
        psc_buf_reset(&c->sample.events);
        c->sample.n_events = 0;
    }
    c->events_kept = false;
    if ((due & 1u << SOURCE_DRIVERS) != 0) {
        psc_buf_reset(&c->sample.drivers);
        psc_buf_reset(&c->sample.aliases);
        c->inventory_whole = true;
        reopen_broken(c);
    }
    for (unsigned i = 0; i < c->n_slots; i++) {
        struct collect_slot *slot = &c->slots[i];
        if (!slot->open) {
            continue;
        }
        if (is_due(slot, due)) {
            run_source(c, slot, (uint8_t)i);
        } else {
            hold_source(c, (uint8_t)i);
        }
    }
    if (c->states_changed) {
        build_states(c);
    }
    c->states_changed = c->states_changed || changed_before;
}

void collect_keep_events(struct collect *c)
{
    c->events_kept = true;
}

static void commit_source(struct collect_slot *slot)
{
    struct psc_error err = {.msg = ""};
    if (slot->source->commit(slot->state, &err) != PSC_OK) {
        psc_log(PSC_LOG_DEBUG, "source %s: %s", slot->source->name, err.msg);
    }
}

void collect_commit(struct collect *c)
{
    for (unsigned i = 0; i < c->n_slots; i++) {
        struct collect_slot *slot = &c->slots[i];
        if (slot->open && slot->source->commit != NULL) {
            commit_source(slot);
        }
    }
}
