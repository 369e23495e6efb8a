/* Any bytes as a segment file: the spool opens, reads what is good of it,
 * takes new batches and gives them back. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/spool.h"
#include "common/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/poolscope-fuzz-XXXXXX";

static void remove_file(const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    (void)unlink(path);
}

static void clean(void)
{
    for (unsigned i = 0; i < 4; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%08x.seg", i);
        remove_file(name);
    }
    remove_file("state");
    remove_file("lock");
}

static void clean_all(void)
{
    clean();
    (void)rmdir(dir);
}

static void prepare(void)
{
    static int prepared;
    if (!prepared) {
        prepared = 1;
        psc_log_init("fuzz", PSC_LOG_ERROR);
        if (mkdtemp(dir) == NULL) {
            abort();
        }
        (void)atexit(clean_all);
    }
    clean();
}

static void write_file(const char *name, const uint8_t *data, size_t size)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
        abort();
    }
}

/* Nothing here needs to survive a power failure, and syncing is slow. */
static int on_sync(void *user, int fd)
{
    (void)user;
    (void)fd;
    return 0;
}

static int on_sync_dir(void *user, const char *path)
{
    (void)user;
    (void)path;
    return 0;
}

static int on_save(void *user, const char *path, struct psc_bytes data)
{
    (void)user;
    (void)path;
    write_file("state", data.data, data.len);
    return 0;
}

/* Read the front stream to its end. */
static uint64_t read_front(struct spool *s)
{
    uint8_t stream[SPOOL_STREAM_BYTES];
    uint64_t last;
    uint64_t n = 0;
    (void)spool_front(s, stream, &last);
    struct spool_reader r;
    spool_reader_init(&r);
    if (spool_reader_start(&r, s, stream, 1) == PSC_OK) {
        struct spool_record record;
        while (spool_read(s, &r, &record) == PSC_OK) {
            n++;
        }
    }
    spool_reader_fini(&r, s);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    prepare();
    /* The first byte says how much of the rest is the state file. */
    size_t state = size > 1 ? (size_t)data[0] % size : 0;
    if (size > 1) {
        write_file("state", data + 1, state);
        write_file("00000001.seg", data + 1 + state, size - 1 - state);
    }
    struct spool_fs fs = spool_fs_uv;
    fs.sync = on_sync;
    fs.sync_dir = on_sync_dir;
    fs.save = on_save;
    struct spool s;
    struct spool_options o = {.dir = dir,
                              .max_bytes = 1 << 20,
                              .segment_bytes = 4096,
                              .memory_bytes = 4096,
                              .fs = &fs};
    struct psc_error err;
    if (spool_open(&s, &o, &err) != PSC_OK) {
        return 0;
    }
    (void)read_front(&s);
    spool_finish_front(&s);
    struct psc_bytes payload = {(const uint8_t *)"batch", 5};
    for (int i = 0; i < 3; i++) {
        uint32_t flags = spool_wants_keyframe(&s, 1) ? SPOOL_KEYFRAME : 0;
        if (spool_append(&s, payload, flags, 1, 1) != PSC_OK) {
            abort();
        }
    }
    if (read_front(&s) != 3) {
        abort();
    }
    spool_close(&s);
    return 0;
}
