/* The few calls that libuv does not have, one file an operating system
 * (platform_linux.c). */
#ifndef PSC_AGENT_PLATFORM_H
#define PSC_AGENT_PLATFORM_H

#include "common/error.h"

/* Hold the file @path (made if missing) for this process alone, until
 * platform_unlock() or the process's end, however that comes. *@lock is set on
 * success. PSC_REFUSED: another process holds it. */
PSC_MUST_CHECK int platform_lock(const char *path, int *lock,
                                 struct psc_error *err);
void platform_unlock(int lock);

/* Keep the process small: once before the first allocation of note, and again
 * after something large was freed. */
void platform_memory_tune(void);
void platform_memory_trim(void);

#endif
