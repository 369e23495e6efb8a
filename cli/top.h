/* The live view of this machine, for `poolscope top`: see top_live.c. */
#ifndef PSC_CLI_TOP_H
#define PSC_CLI_TOP_H

#include <stdint.h>

#include "cli/cli.h"

/* In poolmon's order; the first letter of its key. */
enum top_sort {
    TOP_BYTES,
    TOP_TAG,
    TOP_ALLOCS,
    TOP_FREES,
    TOP_DIFF,
    TOP_EACH,
    TOP_GROWTH,
};

struct top_view {
    enum top_sort sort;
    const char *pool;    /* NULL: all */
    const char *pattern; /* of tags, with * and ?; NULL: all */
    int64_t limit;       /* rows of a single table; 0: as suits */
    int64_t interval_us; /* between refreshes */
    bool once;           /* one table, no keys */
    const char *root;    /* "" or a recorded tree */
};

/* Show this machine from the agent's own sources, until 'q' on a terminal,
 * else (and with @view->once) one table. Returns an exit code. */
int top_live(struct cli *cli, const struct top_view *view);

/* Whether @text matches @pattern, in which * stands for any bytes and ? for
 * one. */
bool top_match(const char *pattern, const char *text, size_t len);

#endif
