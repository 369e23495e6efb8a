/* vmalloc callers: offsets cut, modules kept, guard pages left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/sources_linux.h"
#include "agent/vmallocinfo_linux.h"
#include "tests/lib/source_run.h"

static void expect(const char *line, const char *tag, uint64_t bytes)
{
    struct vmalloc_area area;
    char text[128];
    struct text_out out = {text, 0, sizeof(text) - 1};
    assert_true(vmallocinfo_parse(text_of(line, strlen(line)), 4096, &area));
    vmallocinfo_tag(&area, &out);
    text[out.len] = '\0';
    assert_string_equal(text, tag);
    assert_int_equal(area.bytes, bytes);
}

static void vmallocinfo_parses_lines(void **state)
{
    (void)state;
    expect("0x00-0x05   20480 f+0x1/0x2 vmap", "f", 16384);
    expect("0x00-0x05   20480 f+0x1/0x2 [m] pages=4 vmalloc N0=4", "f [m]",
           16384);
    expect("(____ptrval____)-(____ptrval____)    8192 g.constprop.0+0x4/0xf "
           "pages=1 vmalloc N0=1",
           "g", 4096);
    expect("0x00-0x02    8192 acpi_os_map_iomem+0x1/0x2 "
           "phys=0x00000000bffe1000 ioremap",
           "acpi_os_map_iomem", 4096);
    expect("0x00-0x02    8192 0xffffffffc0a11234 pages=1 vmalloc", "unknown",
           4096);
    expect("0x00-0x02    8192 vm_map_ram", "vm_map_ram", 4096);
    expect("0x00-0x02    8192 unpurged vm_area ", "unpurged vm_area", 4096);
    expect("0x00-0x01    4096 f+0x1/0x2 vmap", "f", 4096);
    expect("0x00-0x01    4096 f+0x1/0x2 pages=99999999999999999999999 vmap",
           "f", 4096);
}

static void vmallocinfo_refuses_what_is_no_area(void **state)
{
    (void)state;
    static const char *const LINES[] = {"",
                                        "x",
                                        "0x0-0x1",
                                        "0x0-0x1 abc f+0x1",
                                        "0x0-0x1 4096",
                                        "0x0-0x1 4096 +0x1"};
    struct vmalloc_area area;
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        assert_false(vmallocinfo_parse(text_of(LINES[i], strlen(LINES[i])),
                                       4096, &area));
    }
}

static void vmallocinfo_sums_by_caller(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_vmallocinfo, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    uint8_t flags;
    const int64_t *v =
        source_run_tag(&r, POOL_VMALLOC, "ice_alloc_rings [ice]", &flags);
    assert_non_null(v);
    assert_int_equal(v[COL_BYTES], 2 * 256 * 4096);
    assert_int_equal(v[COL_OUTSTANDING], 2);
    assert_int_equal(flags, TAG_OUTSTANDING | TAG_BYTES);
    assert_non_null(
        source_run_tag(&r, POOL_VMALLOC, "unpurged vm_area", &flags));
    assert_int_equal(flags, TAG_OUTSTANDING | TAG_BYTES | ENTRY_RECLAIMABLE);
    source_run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vmallocinfo_parses_lines),
        cmocka_unit_test(vmallocinfo_refuses_what_is_no_area),
        cmocka_unit_test(vmallocinfo_sums_by_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
