/* A fresh struct of options, compared by the table. */
#include "collector/reload.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "common/log.h"

static bool is_reloadable(size_t offset)
{
    static const size_t offsets[] = {
        offsetof(struct options, log_level),
        offsetof(struct options, names),
        offsetof(struct options, commit_interval_us),
        offsetof(struct options, max_connections),
        offsetof(struct options, max_pending_bytes),
    };
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        if (offset == offsets[i]) {
            return true;
        }
    }
    return false;
}

/* Texts that are not given were filled in at the start. */
static bool differs(const struct psc_option *o, const struct options *a,
                    const struct options *b)
{
    const char *x = (const char *)a + o->offset;
    const char *y = (const char *)b + o->offset;
    if (o->type == PSC_OPT_STRING) {
        const char *old;
        const char *new;
        memcpy(&old, x, sizeof(old));
        memcpy(&new, y, sizeof(new));
        return new != NULL && (old == NULL || strcmp(old, new) != 0);
    }
    return memcmp(x, y,
                  o->type == PSC_OPT_BOOL ? sizeof(bool) : sizeof(int64_t)) !=
           0;
}

static void swap_text(char **a, char **b)
{
    char *text = *a;
    *a = *b;
    *b = text;
}

static void take(struct options *to, struct options *fresh)
{
    to->commit_interval_us = fresh->commit_interval_us;
    to->max_connections = fresh->max_connections;
    to->max_pending_bytes = fresh->max_pending_bytes;
    swap_text(&to->log_level, &fresh->log_level);
    if (fresh->names != NULL) {
        swap_text(&to->names, &fresh->names);
    }
}

int reload_options(int argc, char **argv, struct options *options,
                   struct psc_error *err)
{
    struct options fresh;
    struct command_line line;
    memset(&fresh, 0, sizeof(fresh));
    int rc = psc_config_defaults(collector_options, &fresh, err);
    if (rc == PSC_OK) {
        rc = options_read(argc, argv, &fresh, &line, err);
    }
    if (rc == PSC_OK) {
        rc = options_check(&fresh, err);
    }
    for (const struct psc_option *o = collector_options;
         rc == PSC_OK && o->name != NULL; o++) {
        if (!is_reloadable(o->offset) && differs(o, options, &fresh)) {
            psc_log_warn("%s has changed: that needs a restart", o->name);
        }
    }
    if (rc == PSC_OK) {
        take(options, &fresh);
    }
    psc_config_fini(collector_options, &fresh);
    return rc;
}
