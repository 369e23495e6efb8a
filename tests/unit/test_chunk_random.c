/* Chunks of random tables: whatever comes, goes, changes its flags, jumps or
 * stays, a reader shows it as it was put. Seeded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/unit/chunk_random.h"

enum { RUNS = 150 };

static void random_runs_round_trip(void **state)
{
    (void)state;
    for (uint32_t columns = 1; columns <= TABLE_COLUMNS_MAX; columns += 3) {
        struct chunk_writer w;
        chunk_writer_init(&w, columns, &chunk_openssl);
        for (uint64_t i = 0; i < RUNS; i++) {
            seed = 0x9e3779b97f4a7c15u * (i + 1);
            struct run r;
            run_init(&r, columns, 1 + below(1u << (1 + below(8))),
                     1 + below(150));
            fill(&r);
            (void)round_trip(&w, &r, 1 + below(40));
            run_fini(&r);
        }
        chunk_writer_fini(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_runs_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
