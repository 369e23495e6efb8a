/* Names of the simulated fleet: tags, counters, drivers. Those of the
 * vocabulary depend on the seed and the word only, so that hosts share them. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/fleetsim/truth.h"
#include "tests/bench/fleetsim/truth_hash.h"

enum {
    WINDOWS_TAGS = 62 * 62 * 62 * 62,
    WINDOWS_STEP = 7368787, /* a prime: words spread over all tags */
};

static const char *const first_words[] = {
    "ext4", "xfs",   "nfs",   "sock", "skbuff", "dentry", "inode", "bio",
    "dm",   "scsi",  "tcp",   "udp",  "fs",     "vm",     "task",  "cred",
    "fuse", "btrfs", "kvm",   "mm",   "net",    "nvme",   "zfs",   "rpc",
    "proc", "radix", "maple", "io",   "cgroup", "drm",    "snd",   "usb",
};
static const char *const second_words[] = {
    "inode_cache", "cache",   "head",   "node",  "entry",       "extent_status",
    "struct",      "request", "buffer", "info",  "fclone",      "lock",
    "context",     "queue",   "desc",   "group", "transaction", "key",
};
#define N_FIRST  (sizeof(first_words) / sizeof(first_words[0]))
#define N_SECOND (sizeof(second_words) / sizeof(second_words[0]))

/* Four characters of letters and digits, another for each word. */
static void windows_tag(uint64_t seed, uint32_t word, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789";
    uint64_t start = hash_draw(seed, DRAW_NAME, 0, 0) % WINDOWS_TAGS;
    uint64_t x = (start + (uint64_t)word * WINDOWS_STEP) % WINDOWS_TAGS;
    for (unsigned i = 0; i < 4; i++) {
        out[i] = digits[x % 62];
        x /= 62;
    }
    out[4] = '\0';
}

static enum pool pool_of(const struct truth_host *h, uint32_t word)
{
    if (!h->windows) {
        return POOL_SLAB;
    }
    uint64_t hash = hash_draw(h->truth->s.seed, DRAW_NAME, word, 1);
    return word != 0 && (hash & 1) != 0 ? POOL_PAGED : POOL_NONPAGED;
}

size_t truth_tag_key(const struct truth_host *h, uint32_t word, uint8_t *out)
{
    const struct truth_settings *s = &h->truth->s;
    uint32_t slot = word / 2;
    char *text = (char *)out + 1;
    size_t room = TRUTH_KEY_MAX - 1;
    uint64_t hash = hash_draw(s->seed, DRAW_NAME, word, 2);
    out[0] = (uint8_t)pool_of(h, word);
    if (slot == 0) {
        (void)snprintf(text, room, TRUTH_SNAPSHOT_NAME);
    } else if (slot <= s->n_leaks) {
        (void)snprintf(text, room, "fleetsim_leak%u", slot);
    } else if (slot >= s->n_tags - h->n_own) {
        (void)snprintf(text, room, "own-%u-of-%u", slot, h->number);
    } else if (h->windows) {
        windows_tag(s->seed, word, text);
    } else {
        (void)snprintf(text, room, "%s_%s-%x", first_words[hash % N_FIRST],
                       second_words[(hash >> 20) % N_SECOND], word);
    }
    return 1 + strlen(text);
}

size_t truth_counter_key(const struct truth_host *h, uint32_t counter,
                         uint8_t *out)
{
    static const char *const sorts[] = {"entries", "bytes", "events_total",
                                        "seconds"};
    static const char *const singles[] = {
        [0] = TRUTH_SNAPSHOT_NAME,
        [TRUTH_TOTAL] = "node_memory_MemTotal_bytes",
        [TRUTH_AVAILABLE] = "node_memory_MemAvailable_bytes",
    };
    char *text = (char *)out;
    (void)h;
    if (counter < sizeof(singles) / sizeof(singles[0])) {
        (void)snprintf(text, TRUTH_KEY_MAX, "%s", singles[counter]);
        return strlen(text) + 1; /* and an empty instance */
    }
    /* A name for each 16 of a sort, told apart by instance. */
    (void)snprintf(text, TRUTH_KEY_MAX, "fleetsim_%u_%s", counter / 64,
                   sorts[counter % 4]);
    size_t len = strlen(text) + 1;
    (void)snprintf(text + len, TRUTH_KEY_MAX - len, "%u", counter / 4 % 16);
    return len + strlen(text + len);
}

void truth_driver(const struct truth_host *h, const struct truth_boot *boot,
                  uint32_t i, struct truth_driver *out)
{
    const struct truth_settings *s = &h->truth->s;
    uint64_t fleet = hash_draw(s->seed, DRAW_DRIVER, i, 0);
    /* An update comes with one of the first boots, or never. */
    uint64_t since = hash_draw(h->key, DRAW_DRIVER, i, 1) % 16;
    unsigned update = boot->number > since ? 1 : 0;
    if (i < s->n_leaks) {
        (void)snprintf(out->name, sizeof(out->name), "fleetsim_leak%u", i + 1);
        (void)snprintf(out->version, sizeof(out->version), "6.6.%u",
                       (h->leaks >> i & 1) != 0 ? 6 : 5);
        update = h->leaks >> i & 1;
    } else {
        (void)snprintf(out->name, sizeof(out->name), "%s_%s%u",
                       first_words[fleet % N_FIRST],
                       h->windows ? "filter" : "mod", i);
        (void)snprintf(out->version, sizeof(out->version), "%u.%u.%u",
                       (unsigned)(fleet >> 16) % 9, (unsigned)(fleet >> 24) % 9,
                       update);
    }
    for (unsigned part = 0; part < 4; part++) {
        uint64_t bytes =
            hash_mix(fleet + update + 16 * part + ((uint64_t)h->windows << 32));
        memcpy(out->sha256 + 8 * part, &bytes, sizeof(bytes));
    }
}
