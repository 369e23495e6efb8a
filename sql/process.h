/* Run one program to its end: initdb, pg_ctl. */
#ifndef PSC_SQL_PROCESS_H
#define PSC_SQL_PROCESS_H

#include "common/buf.h"
#include "common/error.h"
#include "sql/account.h"

struct process {
    const char *const *argv;  /* argv[0] is a path; NULL-terminated */
    const struct account *as; /* become this user first; NULL: stay */
    const char *dir;          /* working directory, NULL: "/" */
    int timeout_s;            /* then it is killed */
    struct psc_buf *output;   /* gets standard output and error as far as it
                                 takes them */
};

/* Run it with a clean environment, no open files of ours and a session of
 * its own, so that neither Ctrl-C nor our end reaches what it leaves behind.
 * *@exit_code is its code, or 128 + the signal that ended it.
 * PSC_IO, PSC_TIMEOUT; PSC_PERMISSION: that user cannot enter @dir. */
PSC_MUST_CHECK int process_run(const struct process *p, int *exit_code,
                               struct psc_error *err);

#endif
