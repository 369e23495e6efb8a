/* What every host of a simulated fleet has at every moment, as a pure function
 * of a seed: no state, no clock, no input or output. Any value can be asked for
 * directly, so that a checker needs no replay.
 *
 * A host takes snapshots 0, 1, 2 … In a snapshot some of its tags change; each
 * decides so by a hash of seed, host, tag and snapshot, at a rate of its own
 * (heavy-tailed: a few change always, most seldom). A tag's values are those of
 * its last change at or before the snapshot, and the values at a change are
 * sums of processes that grow by random amounts on scales of 1 to 256
 * snapshots: allocations and frees each grow, what is outstanding wanders
 * between them, and bytes follow it, with mixed sizes.
 *
 * A tag is named by its slot on the host (0 … n_tags - 1). For each slot the
 * fleet's vocabulary has two tags, and each host one of these; `word` is
 * 2 * slot + which. The last few slots are the host's own. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_TRUTH_H
#define PSC_TESTS_BENCH_FLEETSIM_TRUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "proto/table.h"

#define TRUTH_TAGS_MAX     30000u
#define TRUTH_TAGS_MIN     16u
#define TRUTH_COUNTERS_MAX 4000u
#define TRUTH_COUNTERS_MIN 4u
#define TRUTH_DRIVERS_MAX  1000u
#define TRUTH_LEAKS_MAX    8u
#define TRUTH_KEY_MAX      80u /* bytes of a tag's or counter's key */
#define TRUTH_TEXT_MAX     48u /* of a driver's texts, with the final NUL */

/* Slot 0, and counter 0, hold the snapshot's number + 1 as outstanding (as the
 * value), so that whoever reads a row knows which snapshot it is. */
#define TRUTH_SNAPSHOT_NAME "fleetsim_snapshot"

/* Counters 1 and 2: the host's memory, and what of it is available: it wanders
 * and falls by what the leaks take. */
#define TRUTH_TOTAL     1u
#define TRUTH_AVAILABLE 2u

/* Hosts @hosts (0 to 1) have a version of driver fleetsim_leak<i> from which
 * tag fleetsim_leak<i> grows by so much. */
struct truth_leak {
    int64_t bytes_per_hour;
    double hosts;
};

struct truth_settings {
    uint64_t seed;
    uint32_t n_tags, n_counters, n_drivers; /* of each host */
    double change;         /* share of the tags that change in a snapshot */
    double windows;        /* share of the hosts that run Windows */
    double silent;         /* that take no snapshots at times */
    double slow;           /* that deliver in bursts */
    uint64_t reboot_every; /* snapshots between reboots, on average; 0: none */
    int64_t interval_us;   /* between snapshots */
    uint32_t n_leaks;
    struct truth_leak leaks[TRUTH_LEAKS_MAX];
};

struct truth_kind; /* of a tag of the vocabulary: truth_private.h */
struct truth_pace;

struct truth {
    struct truth_settings s;
    struct truth_kind *kinds; /* by word; owned, as the next ones */
    struct truth_pace *paces;
    uint8_t *slab_flags; /* of the tag on Linux */
};

/* What a host is. */
struct truth_host {
    const struct truth *truth; /* borrowed */
    uint32_t number;
    uint64_t key; /* of its hashes */
    bool windows, silent, slow;
    uint32_t leaks; /* a bit for each leak that it has */
    uint32_t n_own; /* slots at the end with tags that no other host has */
};

/* An uptime of a host. */
struct truth_boot {
    uint64_t number;
    uint64_t first; /* its first snapshot */
    uint8_t id[16];
};

struct truth_driver {
    char name[TRUTH_TEXT_MAX], version[TRUTH_TEXT_MAX];
    uint8_t sha256[32];
};

/* Returns PSC_CONFIG for settings out of bounds, or PSC_NOMEM. */
PSC_MUST_CHECK int truth_init(struct truth *t, const struct truth_settings *s,
                              struct psc_error *err);
void truth_fini(struct truth *t);

void truth_host_init(struct truth_host *h, const struct truth *t,
                     uint32_t number);

/* --- a host's time --- */

/* Whether the host takes snapshot @k at all. */
bool truth_taken(const struct truth_host *h, uint64_t k);

/* The boot that snapshot @k falls into. */
void truth_boot_at(const struct truth_host *h, uint64_t k,
                   struct truth_boot *boot);

/* For how long the host had run before the first snapshot of @boot. */
int64_t truth_boot_age_us(const struct truth_host *h,
                          const struct truth_boot *boot);

/* When within the interval the host takes its snapshots. */
int64_t truth_phase_us(const struct truth_host *h);

/* --- tags --- */

uint32_t truth_word(const struct truth_host *h, uint32_t slot);

/* Append the key (proto/table.h) to @out of TRUTH_KEY_MAX bytes. */
size_t truth_tag_key(const struct truth_host *h, uint32_t word, uint8_t *out);
uint8_t truth_tag_flags(const struct truth_host *h, uint32_t word);

/* Whether the tag comes and goes, and whether it is there in snapshot @k. One
 * that comes or goes does so where @k is a multiple of this. */
#define TRUTH_PRESENCE_SNAPSHOTS 64u
bool truth_tag_fleeting(const struct truth_host *h, uint32_t word);
bool truth_tag_present(const struct truth_host *h, uint32_t word, uint64_t k);

/* Whether the tag changes in snapshot @k, not the first of a boot. */
bool truth_tag_changes(const struct truth_host *h, uint32_t word, uint64_t k);

/* List which of @words change in snapshot @k; the same, but quick. Returns how
 * many indices were written to @out, which has room for @n. */
uint32_t truth_tags_changing(const struct truth_host *h, const uint16_t *words,
                             uint32_t n, uint64_t k, uint32_t *out);

/* Values at a change: in snapshot @k, which is one. */
void truth_tag_change(const struct truth_host *h, const struct truth_boot *boot,
                      uint32_t word, uint64_t k,
                      int64_t out[TABLE_COLUMNS_MAX]);

/* Values in snapshot @k, whether it changed there or before. */
void truth_tag_at(const struct truth_host *h, const struct truth_boot *boot,
                  uint32_t word, uint64_t k, int64_t out[TABLE_COLUMNS_MAX]);

/* --- counters --- */

size_t truth_counter_key(const struct truth_host *h, uint32_t counter,
                         uint8_t *out);
uint8_t truth_counter_flags(uint32_t counter);

/* Bytes of memory: 16 to 256 GiB. */
int64_t truth_ram(const struct truth_host *h);

/* The value as tables have it: an integer, or with ENTRY_REAL a double's
 * bits. */
int64_t truth_counter_at(const struct truth_host *h,
                         const struct truth_boot *boot, uint32_t counter,
                         uint64_t k);

/* --- drivers --- */

/* Driver @i of the inventory, which stays the same for a boot. */
void truth_driver(const struct truth_host *h, const struct truth_boot *boot,
                  uint32_t i, struct truth_driver *out);

#endif
