/* Places of objects in slabs. See slots_linux.h. */
#include "cli/slots_linux.h"

#include <string.h>
#include <unistd.h>

#include "agent/slabinfo_linux.h"
#include "common/file.h"

#define SLABINFO_MAX_BYTES ((size_t)4 * 1024 * 1024)

static struct reading_tag *find(struct reading *r, struct text name)
{
    char key[TABLE_KEY_MAX_BYTES];
    struct text_out folded = {key + 1, 0, sizeof key - 2};

    key[0] = (char)POOL_SLAB;
    slab_name_fold(name, &folded);
    uint32_t i = psc_map_find(&r->names, key, folded.len + 1);
    return i == PSC_MAP_NONE ? NULL : &r->tags[i];
}

static void take_line(struct reading *r, struct text line, int64_t page_bytes)
{
    struct slab_row row;

    if (!slabinfo_parse(line, &row) || row.objs_per_slab == 0) {
        return;
    }
    struct reading_tag *tag = find(r, row.name);
    if (tag) {
        tag->slot_bytes = (double)row.pages_per_slab * (double)page_bytes /
                          (double)row.objs_per_slab;
        tag->free_slots += (int64_t)(row.num_objs - row.active_objs);
    }
}

int slots_fill(struct reading *r)
{
    int64_t page_bytes = sysconf(_SC_PAGESIZE);
    struct psc_buf file;

    psc_buf_init(&file, SLABINFO_MAX_BYTES);
    int rc = psc_file_read("/proc/slabinfo", &file, NULL);
    const char *at = rc == 0 ? (const char *)file.data : "";
    const char *end = rc == 0 ? at + file.len : at;
    while (at < end) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        eol = eol ? eol : end;
        struct text line = {at, eol};
        take_line(r, line, page_bytes);
        at = eol + 1;
    }
    psc_buf_fini(&file);
    return rc == PSC_NOMEM ? rc : 0;
}
