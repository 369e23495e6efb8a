/* Kernel modules as drivers, with the tags that name them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/modules_linux.h"
#include "agent/sources_linux.h"
#include "tests/lib/source_run.h"

static bool is(struct psc_bytes b, const char *text)
{
    return b.len == strlen(text) && memcmp(b.data, text, b.len) == 0;
}

static void modules_refuse_paths(void **state)
{
    (void)state;
    static const char *const LINES[] = {"../x 1 0 - Live 0x0", "a/b 1 0", "a",
                                        "", ". 5"};
    struct module_row row;
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        assert_false(modules_parse(text_of(LINES[i], strlen(LINES[i])), &row));
    }
}

static void modules_are_drivers(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_modules, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    struct record_reader in;
    struct driver_record d;
    record_reader_init(&in, psc_buf_bytes(&r.sample.drivers));
    assert_true(record_next_driver(&in, &d));
    assert_true(is(d.name, "ice"));
    assert_true(is(d.version, "1.15.4"));
    assert_true(is(d.srcversion, "6A1B2C3D4E5F60718293A4B"));
    assert_true(is(d.tags,
                   "ice_alloc_rings\\x20[ice] "
                   "drivers/net/ethernet/intel/ice/ice_txrx.c\\x20[ice]\\x20"
                   "func:ice_setup_rx_ring"));
    assert_int_equal(d.size_bytes, 1327104);
    assert_int_equal(d.loaded_matches_file, -1);
    assert_true(record_next_driver(&in, &d));
    assert_true(is(d.name, "nf_tables"));
    assert_true(is(d.version, ""));
    assert_true(record_next_driver(&in, &d));
    assert_false(record_next_driver(&in, &d));
    assert_true(record_reader_ok(&in));
    /* Built anew, not appended. */
    size_t len = r.sample.drivers.len;
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(r.sample.drivers.len, len);
    source_run_end(&r);
}

static void modules_may_be_missing(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_modules, "proc-linux-6.18", NULL),
        PSC_MISSING);
    assert_non_null(strstr(r.err.msg, "without loadable modules"));
    source_run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_refuse_paths),
        cmocka_unit_test(modules_are_drivers),
        cmocka_unit_test(modules_may_be_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
