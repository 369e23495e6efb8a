/* Facts about a Linux host for the hello: see source.h. What cannot be read
 * stays empty, but for the boot id, without which batches mean nothing. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/meminfo_linux.h"
#include "agent/source.h"

/* PRETTY_NAME="Debian GNU/Linux 12 (bookworm)", quotes and all optional. */
static int on_release(void *ctx, struct text line)
{
    struct host_facts *facts = ctx;
    if (!text_take(&line, "PRETTY_NAME=")) {
        return 0;
    }
    struct text_out out = {facts->os_version, 0, sizeof(facts->os_version) - 1};
    if (text_left(&line) >= 2 && (*line.at == '"' || *line.at == '\'') &&
        line.end[-1] == *line.at) {
        line.at++;
        line.end--;
    }
    text_put(&out, line);
    return 1;
}

static int on_stat(void *ctx, struct text line)
{
    struct host_facts *facts = ctx;
    uint64_t v;
    if (text_take(&line, "btime ") && text_u64(&line, &v)) {
        facts->boot_wall_us = text_product(v, 1000000);
        return 1;
    }
    return 0;
}

static void read_lines(const char *root, const char *path, text_line_fn on_line,
                       void *ctx)
{
    struct proc_file f;
    if (proc_file_open(&f, root, path, "", NULL) == 0) {
        (void)!proc_file_lines(&f, on_line, ctx, NULL);
        proc_file_close(&f);
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "123e4567-e89b-…" as 16 bytes. */
static bool parse_uuid(const char *text, uint8_t out[16])
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        if (*text == '-') {
            continue;
        }
        int v = hex_value(*text);
        if (v < 0 || n == 32) {
            return false;
        }
        out[n / 2] = (uint8_t)(n % 2 == 0 ? v << 4 : out[n / 2] | v);
        n++;
    }
    return n == 32;
}

int host_facts_read(const struct source_env *env, struct host_facts *facts,
                    struct psc_error *err)
{
    static const char BOOT_ID[] = "/proc/sys/kernel/random/boot_id";
    memset(facts, 0, sizeof(*facts));
    (void)snprintf(facts->os, sizeof(facts->os), "linux");
    (void)proc_read_value(env->root, "/proc/sys/kernel/hostname", facts->name,
                          sizeof(facts->name));
    (void)proc_read_value(env->root, "/proc/sys/kernel/osrelease",
                          facts->os_build, sizeof(facts->os_build));
    char text[64];
    (void)proc_read_value(env->root, BOOT_ID, text, sizeof(text));
    if (!parse_uuid(text, facts->boot_id)) {
        return psc_error_set(err, PSC_MISSING,
                             "%s%s has no boot id: is /proc mounted?",
                             env->root, BOOT_ID);
    }
    read_lines(env->root, "/etc/os-release", on_release, facts);
    if (facts->os_version[0] == '\0') {
        read_lines(env->root, "/usr/lib/os-release", on_release, facts);
    }
    read_lines(env->root, "/proc/stat", on_stat, facts);
    struct proc_file f;
    struct meminfo m;
    if (proc_file_open(&f, env->root, "/proc/meminfo", "", NULL) == 0) {
        if (meminfo_read(&m, &f, NULL) == 0) {
            facts->ram_bytes = (uint64_t)m.value[MEM_TOTAL];
        }
        proc_file_close(&f);
    }
    return 0;
}
