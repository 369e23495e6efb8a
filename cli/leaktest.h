/* `poolscope leaktest`: leaks real kernel memory, without any module, to see
 * that what watches the machine finds it. */
#ifndef PSC_CLI_LEAKTEST_H
#define PSC_CLI_LEAKTEST_H

#include "cli/cli.h"

extern const struct psc_option leaktest_options[];
extern const char leaktest_text[];
extern const char leaktest_examples[];

int leaktest_run(struct cli *cli, const struct command *command, int argc,
                 char **argv);

#endif
