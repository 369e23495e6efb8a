/* Counts and fails allocations in a test program. Works in programs linked
 * with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc, for all static code. */
#ifndef PSC_TESTS_FAULT_H
#define PSC_TESTS_FAULT_H

/* Start counting anew and let the @n-th allocation from now on fail, and none
 * after it; 0: all succeed. */
void fault_fail_at(unsigned long n);

/* Allocations since then. */
unsigned long fault_allocations(void);

#endif
