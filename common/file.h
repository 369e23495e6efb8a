/* Whole small files, portably (libuv's synchronous calls). */
#ifndef PSC_COMMON_FILE_H
#define PSC_COMMON_FILE_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/error.h"

/* Append a whole file to @out (within @out's maximum). */
PSC_MUST_CHECK int psc_file_read(const char *path, struct psc_buf *out,
                                 struct psc_error *err);

/* Replace a file as one step: write "<path>.tmp" with @mode, fsync, rename,
 * fsync the directory. */
PSC_MUST_CHECK int psc_file_write(const char *path, struct psc_bytes data,
                                  int mode, struct psc_error *err);

/* Create a directory and its parents with @mode; existing ones are fine. */
PSC_MUST_CHECK int psc_dir_make(const char *path, int mode,
                                struct psc_error *err);

/* "<dir>/<name>" into @out of @cap bytes; PSC_LIMIT if it does not fit. */
PSC_MUST_CHECK int psc_path_join(char *out, size_t cap, const char *dir,
                                 const char *name);

#endif
