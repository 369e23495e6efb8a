/* Allocation failures on demand, by the linker's --wrap. */
#include "tests/lib/fault.h"

#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

static unsigned long n_allocations, fail_at;

void fault_fail_at(unsigned long n)
{
    n_allocations = 0;
    fail_at = n;
}

unsigned long fault_allocations(void)
{
    return n_allocations;
}

static bool fails(void)
{
    return ++n_allocations == fail_at;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}
