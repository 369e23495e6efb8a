/* What this process remembers of each host that came: its live session, how
 * many new names and rows it has brought lately, whether the database refuses
 * its samples, and its last heartbeat. Grows with the hosts, never shrinks. */
#ifndef PSC_COLLECTOR_HOSTS_H
#define PSC_COLLECTOR_HOSTS_H

#include <stdint.h>

#include "collector/budget.h"
#include "collector/heartbeat.h"
#include "collector/refused.h"
#include "collector/registry.h"
#include "common/map.h"

struct session;

struct host_slot {
    struct session *session; /* live one, or NULL */
    struct registry_quota quota;
    struct budget budget;
    struct refused_host refused;
    struct heartbeat heartbeat;
};

struct hosts {
    struct psc_map ids;      /* host_id to index */
    struct host_slot **slot; /* by index; each stays where it is */
    uint32_t cap;
};

void hosts_init(struct hosts *h);
void hosts_fini(struct hosts *h);

/* The host's slot, made if need be; NULL when out of memory. */
struct host_slot *hosts_get(struct hosts *h, int64_t host_id);

/* The host of an index below ids.count. */
int64_t hosts_id(const struct hosts *h, uint32_t index);

/* The host's slot if it has one. */
struct host_slot *hosts_find(const struct hosts *h, int64_t host_id);

#endif
