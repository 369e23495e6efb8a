/* How both of the collector's threads connect to PostgreSQL: a peer that is
 * silent is given up within seconds, not after the kernel's two hours. */
#ifndef PSC_COLLECTOR_PGCONNECT_H
#define PSC_COLLECTOR_PGCONNECT_H

#include <libpq-fe.h>
#include <stddef.h>

/* Begin to connect without blocking, as @name in pg_stat_activity; PQfinish()
 * is due. What @conninfo says itself wins. Returns NULL when out of memory. */
static inline PGconn *pgconnect_start(const char *name, const char *conninfo)
{
    /* Later ones win, so what the user wrote comes last. */
    const struct {
        const char *key, *value;
    } settings[] = {
        {"application_name", name},
        {"connect_timeout", "10"},
        {"tcp_user_timeout", "15000"}, /* ms */
        {"keepalives_idle", "10"},
        {"keepalives_interval", "5"},
        {"keepalives_count", "3"},
        {"dbname", conninfo},
        {NULL, NULL},
    };
    enum { N = sizeof(settings) / sizeof(settings[0]) };
    const char *keys[N];
    const char *values[N];
    for (size_t i = 0; i < N; i++) {
        keys[i] = settings[i].key;
        values[i] = settings[i].value;
    }
    return PQconnectStartParams(keys, values, 1);
}

#endif
