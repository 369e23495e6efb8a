/* The commands of `poolscope`; each is defined in the file that its comment
 * names, and main.c lists them. */
#ifndef PSC_CLI_COMMANDS_H
#define PSC_CLI_COMMANDS_H

#include "cli/cli.h"

extern const struct command command_status;    /* fleet.c */
extern const struct command command_hosts;     /* fleet.c */
extern const struct command command_drivers;   /* fleet.c */
extern const struct command command_counters;  /* fleet.c */
extern const struct command command_events;    /* fleet.c */
extern const struct command command_top;       /* top.c */
extern const struct command command_history;   /* history.c */
extern const struct command command_leaks;     /* leaks.c */
extern const struct command command_leak;      /* leaks.c */
extern const struct command command_token;     /* token.c */
extern const struct command command_host;      /* admin.c */
extern const struct command command_migrate;   /* admin.c */
extern const struct command command_upgrade;   /* admin.c */
extern const struct command command_database;  /* admin.c */
extern const struct command command_fsck;      /* fsck.c */
extern const struct command command_psql;      /* psql.c */
extern const struct command command_retention; /* capacity.c */
extern const struct command command_capacity;  /* capacity.c */
extern const struct command command_leaktest;  /* leaktest.c */

#endif
