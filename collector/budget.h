/* How many rows one host may have the collector write beside its samples:
 * events, drivers, boots, texts. Pure.
 *
 * An honest host stays far below: its agent sends at most 24 events a tick,
 * and inventories when they change. A host beyond it lies or is broken: what
 * is too much is dropped and counted, its samples are stored. Each budget is
 * full at first and fills up again evenly. */
#ifndef PSC_COLLECTOR_BUDGET_H
#define PSC_COLLECTOR_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

enum budget_kind {
    BUDGET_EVENTS,
    BUDGET_DRIVERS, /* entries of inventories */
    BUDGET_TEXTS,   /* bytes of aliases and states of sources */
    BUDGET_BOOTS,
    BUDGET_KINDS,
};

/* One host's. All zero is full. */
struct budget {
    struct {
        int64_t full_us; /* monotonic: when it will be full again */
        int64_t told_us; /* when that was last said, 0: never */
        uint64_t dropped;
    } of[BUDGET_KINDS];
    uint8_t boot_id[16]; /* the last one that was let through */
    bool boot_known;
};

/* Take @n at @now_us (monotonic), all or none; counted if refused. */
bool budget_take(struct budget *b, enum budget_kind kind, uint32_t n,
                 int64_t now_us);

/* May a row be made of this boot? A boot already let through costs nothing. */
bool budget_take_boot(struct budget *b, const uint8_t boot_id[16],
                      int64_t now_us);

/* A kind of which something was dropped that has not been told for an hour,
 * and marks it as told; -1: none. @dropped: how much so far. */
int budget_tell(struct budget *b, int64_t now_us, uint64_t *dropped);

/* "events", and how many of them there may be at once. */
const char *budget_name(enum budget_kind kind);
uint32_t budget_burst(enum budget_kind kind);

#endif
