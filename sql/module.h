/* The module poolscope_chunk (sql/extension) in the embedded server: there we
 * are who may install it, so nobody has to. With a server of somebody else
 * (--dsn) its administrator does. */
#ifndef PSC_SQL_MODULE_H
#define PSC_SQL_MODULE_H

#include "sql/database.h"

/* After the migrations: if the module was built or installed beside this
 * program, copy it into the data directory, which the server can read whatever
 * becomes of ours, and put its functions in place of those in PL/pgSQL. If
 * there is none, or it does not fit the server, these stay: that is logged and
 * no failure. Nothing to do with a DSN. */
void module_use(const struct database_options *o);

#endif
