/* What the uplink's files share: uplink.c connects and closes,
 * uplink_session.c speaks with the collector. */
#ifndef PSC_AGENT_UPLINK_PRIVATE_H
#define PSC_AGENT_UPLINK_PRIVATE_H

#include "agent/uplink.h"

/* The only way to another state; checks that it is allowed. */
void uplink_set_state(struct uplink *u, enum uplink_state state);

/* End the connection; @code and @text say why (PSC_CLOSED: in order). */
void uplink_close(struct uplink *u, int code, const char *text);

/* A connection stands: say hello, or renew an expired certificate. */
void uplink_session_begin(struct uplink *u);

/* A frame of the collector. */
void uplink_session_frame(struct uplink *u, struct psc_bytes frame);

/* Send what the window allows (LIVE only). */
void uplink_session_pump(struct uplink *u);

/* Every heartbeat_ms. */
void uplink_session_heartbeat(struct uplink *u);

/* The connection is gone. */
void uplink_session_end(struct uplink *u);

#endif
