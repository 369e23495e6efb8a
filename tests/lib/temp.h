/* Temporary directories for tests, removed when the program exits, also after
 * a failed assertion or a fatal signal that CMocka catches. */
#ifndef PSC_TESTS_TEMP_H
#define PSC_TESTS_TEMP_H

/* Make a directory of mode 0755 under $TMPDIR or /tmp and return its path,
 * which lives until the program exits. Aborts the test on failure. */
const char *temp_dir(void);

/* "<dir>/<name>", freed at exit. */
const char *temp_path(const char *dir, const char *name);

/* Write a whole file; aborts the test on failure. */
void temp_write(const char *path, const void *data, unsigned long len);

/* Call @fn(@arg) at exit before directories are removed, last one first:
 * children to end, servers to stop. */
void temp_at_exit(void (*fn)(void *arg), void *arg);

#endif
