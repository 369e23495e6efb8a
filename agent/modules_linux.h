/* /proc/modules: the loaded kernel modules. Pure parser of its lines. */
#ifndef PSC_AGENT_MODULES_LINUX_H
#define PSC_AGENT_MODULES_LINUX_H

#include "agent/text.h"

struct module_row {
    struct text name;
    uint64_t bytes;
};

/* "nf_tables 278528 0 - Live 0x0000000000000000 (OE)". False for what is no
 * module: a name that is also a path is refused. */
bool modules_parse(struct text line, struct module_row *row);

/* Append @tag to a list separated by blanks, blanks in it as \x20. */
void module_tag_put(struct psc_buf *list, struct text tag);

#endif
