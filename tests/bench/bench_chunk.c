/* What chunks cost: bytes a changed entry and a cell (an entry at a snapshot,
 * three values), told apart by section; nanoseconds of writing, of reading one
 * entry over the run, of reading all, of reading the levels.
 *
 * The data is drawn from known distributions: rates and sizes of change are
 * heavy-tailed over tags, objects have one size, mixed sizes or live in slabs.
 * So what each draw tells in bits is known exactly; their sum is printed as
 * "entropy", which no layout can undercut. It counts the changes only, not the
 * state at the start. "varint" is the same logical content as byte varints: a
 * gap, and zigzag differences of allocs, outstanding and bytes. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sql/codec/chunk.h"
#include "sql/codec/chunk_writer.h"

enum {
    TAGS = 3000,
    ROUNDS = 50,
    ONES = 300, /* entries read alone in a round */
    FLAGS = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES,
};

enum kind {
    KIND_FIXED, /* objects of one size */
    KIND_MIXED, /* of sizes around a mean */
    KIND_SLAB,  /* bytes are whole slabs, which follow objects loosely */
    KINDS,
};

struct tag {
    uint32_t id;
    enum kind kind;
    double rate;     /* chance of a change at a snapshot */
    double moves;    /* mean logarithm of the allocs of a change */
    int64_t size;    /* of an object */
    int64_t slab;    /* bytes of a slab */
    int64_t objects; /* in a slab */
};

/* What a writer is fed. */
struct change {
    uint32_t snapshot, id;
    int64_t values[TABLE_COLUMNS_MAX];
};

struct sim {
    struct tag tags[TAGS];
    uint32_t snapshots;
    int64_t (*values)[TAGS][TABLE_COLUMNS_MAX];
    struct change *list; /* all changes in order of snapshot, the first's too */
    double information_bits;
    uint64_t changes;
};

static uint64_t seed = 88172645463325252u;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static double uniform(void)
{
    return ((double)(any() >> 11) + 0.5) / 9007199254740992.0;
}

static double gauss(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

/* Bits that an outcome between @low and @high of a standard normal tells. */
static double told(double low, double high)
{
    if (low > 0) {
        double t = low;
        low = -high;
        high = -t;
    }
    double p = 0.5 * (erfc(-high / M_SQRT2) - erfc(-low / M_SQRT2));
    return -log2(p > 1e-300 ? p : 1e-300);
}

/* A normal variate, rounded. */
static int64_t draw(struct sim *m, double mean, double deviation)
{
    double x = floor(mean + deviation * gauss() + 0.5);

    m->information_bits +=
        told((x - 0.5 - mean) / deviation, (x + 0.5 - mean) / deviation);
    return (int64_t)x;
}

/* A log-normal variate of at least 1, rounded down. */
static int64_t draw_log(struct sim *m, double mean, double deviation)
{
    double x = floor(exp(mean + deviation * gauss()));
    x = x < 1 ? 1 : x;
    double low = x <= 1 ? -40 : (log(x) - mean) / deviation;

    m->information_bits += told(low, (log(x + 1) - mean) / deviation);
    return (int64_t)x;
}

static bool changes(struct sim *m, double rate)
{
    if (rate >= 1) {
        return true;
    }
    bool does = uniform() < rate;
    m->information_bits -= log2(does ? rate : 1 - rate);
    return does;
}

static void make_tag(struct tag *t, uint32_t id, int64_t *v)
{
    static const int64_t sizes[] = {32, 64, 96, 128, 200, 512, 1024, 4096};
    double rate = exp(-2.55 + 1.6 * gauss());
    *t = (struct tag){.id = id,
                      .kind = (enum kind)(any() % KINDS),
                      .rate = rate > 1 ? 1 : rate,
                      .moves = log(exp(3 + 2 * gauss()) + 1),
                      .size = sizes[any() % 8],
                      .slab = INT64_C(4096) << any() % 4};
    t->objects = t->slab / t->size;
    double objects = exp(6 + 2.5 * gauss());
    v[COL_OUTSTANDING] = (int64_t)objects + 1;
    v[COL_ALLOCS] = (int64_t)(objects * exp(fabs(2 * gauss() + 2))) + 1;
    v[COL_BYTES] = v[COL_OUTSTANDING] * t->size;
    if (t->kind == KIND_MIXED) {
        v[COL_BYTES] = (int64_t)((double)v[COL_BYTES] * exp(0.3 * gauss()));
    } else if (t->kind == KIND_SLAB) {
        v[COL_BYTES] = (v[COL_OUTSTANDING] / t->objects + 1) * t->slab;
    }
}

static void move_bytes(struct sim *m, const struct tag *t, int64_t *v,
                       int64_t allocs, int64_t outstanding)
{
    if (t->kind == KIND_FIXED) {
        v[COL_BYTES] += outstanding * t->size;
    } else if (t->kind == KIND_MIXED) {
        double unit = (double)t->size / 16;
        int64_t more = draw(m, (double)outstanding * unit,
                            0.1 + 0.4 * unit * sqrt((double)allocs));
        v[COL_BYTES] += more * 16;
    } else {
        int64_t wanted = v[COL_OUTSTANDING] / t->objects + 1;
        int64_t has = v[COL_BYTES] / t->slab;
        double lacks = (double)(wanted - has);
        v[COL_BYTES] += draw(m, 0.2 * lacks, lacks != 0 ? 0.5 : 0.15) * t->slab;
    }
    if (v[COL_BYTES] < 0) {
        v[COL_BYTES] = 0;
    }
}

static void move_tag(struct sim *m, const struct tag *t, int64_t *v)
{
    int64_t allocs = draw_log(m, t->moves, 0.8);
    int64_t outstanding = draw(m, 0, sqrt((double)allocs));

    outstanding = outstanding > allocs ? allocs : outstanding;
    if (v[COL_OUTSTANDING] + outstanding < 0) {
        outstanding = -v[COL_OUTSTANDING];
    }
    v[COL_ALLOCS] += allocs;
    v[COL_OUTSTANDING] += outstanding;
    move_bytes(m, t, v, allocs, outstanding);
    m->changes++;
}

static void make_list(struct sim *m)
{
    m->list = calloc(m->changes + TAGS + 1, sizeof(*m->list));
    if (m->list == NULL) {
        abort();
    }
    struct change *c = m->list;
    for (uint32_t s = 0; s < m->snapshots; s++) {
        for (uint32_t i = 0; i < TAGS; i++) {
            const int64_t *now = m->values[s][i];
            if (s > 0 && memcmp(now, m->values[s - 1][i],
                                sizeof(m->values[s][i])) == 0) {
                continue;
            }
            *c = (struct change){.snapshot = s, .id = m->tags[i].id};
            memcpy(c->values, now, sizeof(c->values));
            c++;
        }
    }
    c->snapshot = m->snapshots; /* the end */
}

static struct sim *make_sim(uint32_t snapshots)
{
    struct sim *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        abort();
    }
    m->snapshots = snapshots;
    m->values = calloc(snapshots, sizeof(*m->values));
    if (m->values == NULL) {
        abort();
    }
    uint32_t id = 0;
    for (uint32_t i = 0; i < TAGS; i++) {
        /* One in five of the fleet's tags. */
        id += 1 + (uint32_t)(-log(uniform()) * 4);
        make_tag(&m->tags[i], id, m->values[0][i]);
    }
    for (uint32_t s = 1; s < snapshots; s++) {
        memcpy(m->values[s], m->values[s - 1], sizeof(m->values[s]));
        for (uint32_t i = 0; i < TAGS; i++) {
            if (changes(m, m->tags[i].rate)) {
                move_tag(m, &m->tags[i], m->values[s][i]);
            }
        }
    }
    for (uint32_t s = 0; s < snapshots; s++) {
        for (uint32_t i = 0; i < TAGS; i++) {
            int64_t *v = m->values[s][i];
            v[COL_FREES] = v[COL_ALLOCS] - v[COL_OUTSTANDING];
        }
    }
    make_list(m);
    return m;
}

/* --- bytes as varints --- */

static size_t varint_bytes(int64_t diff)
{
    uint64_t v = (uint64_t)diff << 1 ^ (0 - ((uint64_t)diff >> 63));
    size_t n = 1;

    for (; v >= 0x80; v >>= 7) {
        n++;
    }
    return n;
}

/* The changes of all tags. */
static size_t varint_form(const struct sim *m)
{
    static const int columns[] = {COL_ALLOCS, COL_OUTSTANDING, COL_BYTES};
    size_t bytes = 0;

    for (uint32_t i = 0; i < TAGS; i++) {
        uint32_t last = 0;
        for (uint32_t s = 0; s < m->snapshots; s++) {
            const int64_t *now = m->values[s][i];
            const int64_t *old = s > 0 ? m->values[s - 1][i] : NULL;
            if (old != NULL && memcmp(now, old, 4 * sizeof(*now)) == 0) {
                continue;
            }
            bytes += varint_bytes(s - last);
            last = s;
            for (unsigned c = 0; c < 3; c++) {
                int c_ = columns[c];
                bytes += varint_bytes(now[c_] - (old != NULL ? old[c_] : 0));
            }
        }
    }
    return bytes;
}

/* --- times --- */

static int64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool no_sha256(const void *data, size_t len,
                      uint8_t out[CHUNK_DIGEST_BYTES])
{
    (void)data;
    (void)len;
    memset(out, 0, CHUNK_DIGEST_BYTES);
    return true;
}

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void write_chunk(struct chunk_writer *w, const struct sim *m,
                        struct chunk_sections *out)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    const struct change *c = m->list;

    for (uint32_t s = 0; s < m->snapshots; s++) {
        int64_t at = INT64_C(1767225600000000) + s * INT64_C(60000000) +
                     (int64_t)(any() % 4000);
        require(chunk_writer_snapshot(w, s, at, at + 1500, boot) == PSC_OK);
        for (; c->snapshot == s; c++) {
            require(chunk_writer_put(w, c->id, FLAGS, c->values) == PSC_OK);
        }
    }
    require(chunk_writer_finish(w, out) == PSC_OK);
}

static uint64_t
    sum; /* of all that was read, so that reading is not for nothing */

static void read_entry(const struct chunk_block *b, uint32_t i)
{
    struct chunk_entry e;

    for (chunk_entry_open(&e, b, i); chunk_next(&e);) {
        sum += (uint64_t)(e.values[COL_FREES] + e.values[COL_BYTES]);
    }
    require(!e.failed);
}

static void read_one(const struct sim *m, const struct chunk_sections *in,
                     const struct chunk_digest *digest)
{
    struct chunk c;
    struct chunk_slice slice;
    struct chunk_block b;
    uint32_t id = m->tags[any() % TAGS].id;

    require(chunk_open(&c, in->head, digest, NULL) == PSC_OK);
    require(chunk_find(&c, id, &slice) == PSC_OK);
    require(chunk_block_at(&b, &c, slice.block, in->data, in->levels, NULL) ==
            PSC_OK);
    read_entry(&b, chunk_block_find(&b, id));
}

static void read_all(const struct chunk_sections *in,
                     const struct chunk_digest *digest, bool levels_only)
{
    struct chunk c;
    struct chunk_slice slice;
    struct chunk_block b;

    require(chunk_open(&c, in->head, digest, NULL) == PSC_OK);
    for (uint32_t at = 0; at < c.n_blocks; at++) {
        if (levels_only) {
            require(chunk_slice(&c, at, &slice) == PSC_OK);
            struct psc_bytes levels = {in->levels.data + slice.levels_at,
                                       slice.levels_len};
            require(chunk_block_open(&b, &c, &slice,
                                     (struct psc_bytes){NULL, 0}, levels,
                                     NULL) == PSC_OK);
        } else {
            require(chunk_block_at(&b, &c, at, in->data, in->levels, NULL) ==
                    PSC_OK);
        }
        for (uint32_t i = 0; i < b.n; i++) {
            if (levels_only) {
                sum += (uint64_t)b.levels[i];
            } else {
                read_entry(&b, i);
            }
        }
    }
}

/* The least that a round took, which others on the machine disturb least. */
struct least {
    int64_t write_ns, one_ns, all_ns, levels_ns;
};

static void keep_least(int64_t *least_ns, int64_t start_ns)
{
    int64_t took_ns = now_ns() - start_ns;

    if (*least_ns == 0 || took_ns < *least_ns) {
        *least_ns = took_ns;
    }
}

static void run_round(struct chunk_writer *w, const struct sim *m,
                      const struct chunk_digest *digest, struct least *least)
{
    struct chunk_sections out;
    int64_t start_ns = now_ns();
    write_chunk(w, m, &out);
    keep_least(&least->write_ns, start_ns);
    start_ns = now_ns();
    for (int i = 0; i < ONES; i++) {
        read_one(m, &out, digest);
    }
    keep_least(&least->one_ns, start_ns);
    start_ns = now_ns();
    read_all(&out, digest, false);
    keep_least(&least->all_ns, start_ns);
    start_ns = now_ns();
    read_all(&out, digest, true);
    keep_least(&least->levels_ns, start_ns);
}

static void print_times(const struct sim *m, const struct chunk_digest *digest,
                        const char *what)
{
    const double changed = (double)m->changes;
    struct chunk_writer w;
    struct least least = {0};
    chunk_writer_init(&w, TABLE_COLUMNS_MAX, digest);
    for (int i = 0; i < ROUNDS; i++) {
        run_round(&w, m, digest, &least);
    }
    printf("  %-12s write %5.1f ns/change, read one %5.2f us, all %5.1f "
           "ns/change, levels %4.1f ns/entry\n",
           what, (double)least.write_ns / changed,
           (double)least.one_ns / 1e3 / ONES, (double)least.all_ns / changed,
           (double)least.levels_ns / TAGS);
    chunk_writer_fini(&w);
}

static void print_bytes(const struct sim *m)
{
    struct chunk_writer w;
    struct chunk_sections out;
    chunk_writer_init(&w, TABLE_COLUMNS_MAX, &chunk_openssl);
    write_chunk(&w, m, &out);
    const double changed = (double)m->changes;
    const double cells = (double)TAGS * m->snapshots;
    const double entropy = m->information_bits / 8;
    size_t all = out.head.len + out.levels.len + out.data.len;
    size_t varints = varint_form(m);
    printf("%u snapshots of %d tags, %.1f %% changing\n",
           (unsigned)m->snapshots, TAGS, 100 * changed / cells);
    printf("  B/change: head %.3f levels %.3f data %.3f, all %.3f; varint "
           "%.3f; entropy %.3f\n",
           (double)out.head.len / changed, (double)out.levels.len / changed,
           (double)out.data.len / changed, (double)all / changed,
           (double)varints / changed, entropy / changed);
    printf("  B/cell:   head %.3f levels %.3f data %.3f, all %.3f; varint "
           "%.3f; entropy %.3f\n",
           (double)out.head.len / cells, (double)out.levels.len / cells,
           (double)out.data.len / cells, (double)all / cells,
           (double)varints / cells, entropy / cells);
    chunk_writer_fini(&w);
}

int main(void)
{
    static const uint32_t snapshots[] = {60, 6, 240};
    static const struct chunk_digest none = {.sha256 = no_sha256};

    for (unsigned i = 0; i < 3; i++) {
        struct sim *m = make_sim(snapshots[i]);
        print_bytes(m);
        print_times(m, &chunk_openssl, "checksums:");
        print_times(m, &none, "without:");
        free(m->list);
        free(m->values);
        free(m);
    }
    return sum == 1; /* it is not */
}
