/* A whole installation for a test: a database, the real collector on
 * free loopback ports, and real agents that enrol by token, each through a
 * proxy of its own if wanted. Every function fails the running test on an
 * error; what still runs at exit is killed. */
#ifndef PSC_TESTS_LIB_WORLD_H
#define PSC_TESTS_LIB_WORLD_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/lib/database.h"
#include "tests/lib/proxy.h"

enum { WORLD_AGENTS_MAX = 8, WORLD_WORDS_MAX = 48 };

struct world;

struct world_agent {
    struct world *world;
    const char *name;         /* of the host */
    const char *state_dir;    /* key, certificate, spool */
    const char *log;          /* standard error, appended over restarts */
    const char *collectors;   /* the option; NULL: the world's */
    const char *const *words; /* further arguments, NULL at the end; or NULL */
    const char *const
        *before;         /* words before the program (valgrind), or NULL */
    struct proxy *proxy; /* on the way to the collector, or NULL */
    pid_t pid;           /* 0: does not run */
};

struct world {
    struct test_database db;
    PGconn *sql; /* as the owner of all tables; see world_text() */
    const char *dir, *pki_dir, *collector_log;
    const char *const *words;  /* further arguments of the collector, or NULL */
    const char *const *before; /* words before the program, or NULL */
    const char *token;         /* good for all agents */
    int port, metrics_port;
    pid_t collector; /* 0: does not run */
    struct world_agent agents[WORLD_AGENTS_MAX];
    unsigned n_agents;
};

/* PostgreSQL and the collector; @sync as production has it, what a test needs
 * that kills PostgreSQL. @words, @before: as in struct world. */
void world_start(struct world *w, bool sync, const char *const *words,
                 const char *const *before);

/* Stop everything by SIGTERM: each must end with exit code 0 within 5 s, and
 * no log may have a sanitiser's report. */
void world_stop(struct world *w);

/* An agent that does not run yet; may be changed before it is started. */
struct world_agent *world_agent_add(struct world *w, const char *name,
                                    const char *const *words);
void world_agent_proxy(struct world_agent *a);
void world_agent_start(struct world_agent *a);

/* SIGKILL, or SIGTERM, which must lead to exit code 0 within 5 s (a minute
 * with words before the program). */
void world_agent_stop(struct world_agent *a, int signal);

/* The collector keeps its ports over restarts. await waits until it listens,
 * start does both. */
void world_collector_spawn(struct world *w);
void world_collector_await(struct world *w);
void world_collector_start(struct world *w);
void world_collector_stop(struct world *w, int signal);

/* `poolscope ARGUMENT…` on the world's database, its output in @out. Returns
 * its exit code. @arguments ends with NULL. */
int world_poolscope(struct world *w, const char *const *arguments, char *out,
                    size_t cap);

/* A port of 127.0.0.1 that nobody uses now. */
int world_free_port(void);

/* A token good for @uses hosts; its text lives until the program's end. */
const char *world_token(struct world *w, const char *uses);

/* First value of a query, as the owner; connects anew after a crash of the
 * server. world_await() asks until the answer is "t". */
const char *world_text(struct world *w, const char *sql);
long long world_int(struct world *w, const char *sql);
void world_await(struct world *w, int timeout_s, const char *sql);

/* A collector's metric, "poolscope_collector_batches_total" or with labels as
 * it is printed; 0 if it is not there. */
long long world_metric(struct world *w, const char *name);

/* Lines of a log that contain @text; wait for at least @n of them. */
unsigned world_log_count(const char *log, const char *text);
void world_log_await(const char *log, const char *text, unsigned n,
                     int timeout_s);

/* Print the last lines of a log, or all from a sanitiser's report on, for whom
 * a test has failed. */
void world_show_log(const char *log);

/* What became of the batches that an agent logged as taken. */
struct world_tally {
    long long taken;     /* by the agent's log */
    long long stored;    /* in the database, parts counted each */
    long long missing;   /* taken and not stored */
    long long dropped;   /* as the host's row says */
    long long twice;     /* stored more than once */
    long long unordered; /* samples not later than the one before */
};

/* Wait until all that the log says was taken by now is stored, or the last of
 * it at least; then check that nothing is stored twice and that samples are in
 * order. Prints the tally under @title. The agent may go on meanwhile. */
void world_settle(struct world *w, const struct world_agent *a, int timeout_s,
                  const char *title, struct world_tally *t);

/* POOLSCOPE_TEST_SECONDS, or @normal; and a random seed, printed, from
 * POOLSCOPE_TEST_SEED or the clock. */
int world_seconds(int normal);
unsigned world_seed(void);

/* "VmRSS" and the like of a process, in KiB. */
long world_memory_kib(pid_t pid, const char *field);

/* Whether this build has a sanitiser, which changes memory and speed. */
bool world_sanitised(void);

#endif
