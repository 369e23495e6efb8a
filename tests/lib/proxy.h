/* A TCP proxy on loopback between two programs, run by a thread of the test,
 * that cuts, slows and swallows their traffic on command. */
#ifndef PSC_TESTS_PROXY_H
#define PSC_TESTS_PROXY_H

#include <stddef.h>
#include <stdint.h>

struct proxy;

/* Forward from a free port of 127.0.0.1 (see proxy_port()) to @target_port. */
struct proxy *proxy_start(int target_port);

/* Cut all connections, stop, and free. */
void proxy_stop(struct proxy *p);

int proxy_port(const struct proxy *p);

/* Connections accepted since the start. */
unsigned proxy_accepted(const struct proxy *p);

/* Bytes forwarded since the start, both ways. */
uint64_t proxy_bytes(const struct proxy *p);

/* Reset all present connections (new ones are accepted). */
void proxy_cut(struct proxy *p);

/* At most so many bytes a second each way; 0: as fast as it goes. */
void proxy_throttle(struct proxy *p, size_t bytes_per_s);

/* While set, nothing is forwarded and no end is told: a half-open network. */
void proxy_swallow(struct proxy *p, int on);

/* Follow a program that came back on another port. */
void proxy_target(struct proxy *p, int target_port);

#endif
