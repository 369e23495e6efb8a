/* The real programs, started and stopped by tests. A child dies with the test
 * (PR_SET_PDEATHSIG), writes to a log file, and is ended by its pid only. */
#ifndef PSC_TESTS_SPAWN_H
#define PSC_TESTS_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Path of a program of this build, such as "poolscope-agent": they lie in the
 * bin folder where the test programs are too. */
const char *spawn_program(const char *name);

/* Start argv[0] (a path) with its arguments; standard output and error are
 * appended to @log_path (NULL: inherited). Fails the test if that fails. */
pid_t spawn(const char *log_path, const char *const argv[]);

/* Wait until the child ends, at most @timeout_s seconds; then kill it and fail
 * the test. Returns its exit code, or 128 + the signal that ended it. */
int spawn_wait(pid_t pid, int timeout_s);

/* Send @signal and wait as above. */
int spawn_stop(pid_t pid, int signal, int timeout_s);

/* Whether the child still runs (it is reaped if not). */
bool spawn_running(pid_t pid);

/* Run a program to its end and catch its standard output (at most @cap - 1
 * bytes, NUL-terminated) in @out. Returns its exit code as above. */
int spawn_capture(const char *const argv[], char *out, size_t cap,
                  int timeout_s);

/* Wait until @path exists and is not empty, and read its first line into
 * @out. Fails the test after @timeout_s. */
void spawn_read_line(const char *path, char *out, size_t cap, int timeout_s);

/* Sleep for so many milliseconds. */
void spawn_sleep_ms(long ms);

#endif
