/* The list of processes: see processes_linux.h. */
#include <stdlib.h>
#include <string.h>

#include "agent/processes_linux.h"

enum {
    WINDOW_COLLECTIONS = 16, /* growth looks back 1 to 2 of these */
    CAP_FIRST = 256,
    PF_KTHREAD = 0x00200000,
};

/* Step over @n numbers, which may have signs. */
static bool skip_fields(struct text *t, int n)
{
    struct text word;
    for (int i = 0; i < n; i++) {
        if (!text_word(t, &word)) {
            return false;
        }
    }
    return true;
}

bool process_stat_parse(struct text all, struct process_stat *out)
{
    uint64_t pid, flags;
    const char *close = memrchr(all.at, ')', text_left(&all));
    if (close == NULL || !text_u64(&all, &pid) || pid == 0 ||
        pid > UINT32_MAX || !text_take(&all, " (") || all.at > close) {
        return false;
    }
    out->pid = (uint32_t)pid;
    out->name.at = all.at;
    out->name.end = close;
    all.at = close + 1;
    const char *nl = memchr(all.at, '\n', text_left(&all));
    if (nl != NULL) {
        all.end = nl;
    }
    /* state ppid pgrp session tty tpgid | flags | minflt … nice | threads |
     * itrealvalue | starttime vsize rss */
    if (!skip_fields(&all, 6) || !text_u64(&all, &flags) ||
        !skip_fields(&all, 10) || !text_u64(&all, &out->threads) ||
        !skip_fields(&all, 1) || !text_u64(&all, &out->start_ticks) ||
        !text_u64(&all, &out->virtual_bytes) ||
        !text_u64(&all, &out->rss_pages)) {
        return false;
    }
    out->kernel_thread = (flags & PF_KTHREAD) != 0;
    return true;
}

void process_list_init(struct process_list *l)
{
    memset(l, 0, sizeof(*l));
}

void process_list_fini(struct process_list *l)
{
    free(l->now);
    free(l->then);
    memset(l, 0, sizeof(*l));
}

void process_list_begin(struct process_list *l)
{
    struct process *swap = l->then;
    l->then = l->now;
    l->n_then = l->n_now;
    l->now = swap;
    l->n_now = 0;
    l->cursor = 0;
    l->collection++;
}

const struct process *process_list_then(struct process_list *l, uint32_t pid)
{
    while (l->cursor < l->n_then && l->then[l->cursor].pid < pid) {
        l->cursor++;
    }
    if (l->cursor < l->n_then && l->then[l->cursor].pid == pid) {
        return &l->then[l->cursor];
    }
    return NULL;
}

static int grow(struct process_list *l)
{
    if (l->n_now >= PROCESSES_MAX) {
        return PSC_LIMIT;
    }
    uint32_t cap = l->cap == 0 ? CAP_FIRST : l->cap * 2;
    struct process *now = realloc(l->now, cap * sizeof(*now));
    if (now == NULL) {
        return PSC_NOMEM;
    }
    l->now = now;
    /* They swap roles, so both grow. */
    struct process *then = realloc(l->then, cap * sizeof(*then));
    if (then == NULL) {
        return PSC_NOMEM;
    }
    l->then = then;
    l->cap = cap;
    return 0;
}

static int append(struct process_list *l, const struct process *p)
{
    struct process copy = *p; /* @p may lie in a list that grow() moves */
    if (l->n_now >= l->cap) {
        int rc = grow(l);
        if (rc != 0) {
            return rc;
        }
    }
    l->now[l->n_now++] = copy;
    return 0;
}

int process_list_keep(struct process_list *l, const struct process *then)
{
    return append(l, then);
}

static void take_history(const struct process_list *l, struct process *p,
                         const struct process *then)
{
    if (then == NULL || then->start_ticks != p->start_ticks) {
        p->rss_then = p->rss_bytes;
        p->rss_mark = p->rss_bytes;
        p->seen_before = l->collection == 1;
        return;
    }
    p->seen_before = true;
    p->rss_then = then->rss_then;
    p->rss_mark = then->rss_mark;
    if (l->collection % WINDOW_COLLECTIONS == 0) {
        p->rss_then = then->rss_mark;
        p->rss_mark = p->rss_bytes;
    }
}

int process_list_add(struct process_list *l, const struct process_stat *stat,
                     uint64_t page_bytes, const struct process *then,
                     struct process **out)
{
    struct process p;
    memset(&p, 0, sizeof(p));
    size_t len = text_left(&stat->name);
    p.name_len = (uint8_t)(len < PROCESS_NAME_BYTES ? len : PROCESS_NAME_BYTES);
    memcpy(p.name, stat->name.at, p.name_len);
    p.pid = stat->pid;
    p.kernel_thread = stat->kernel_thread;
    p.start_ticks = stat->start_ticks;
    p.rss_bytes = text_product(stat->rss_pages, page_bytes);
    p.virtual_bytes = text_clamp(stat->virtual_bytes);
    p.threads = text_clamp(stat->threads);
    take_history(l, &p, then);
    int rc = append(l, &p);
    *out = rc == 0 ? &l->now[l->n_now - 1] : NULL;
    return rc;
}

typedef int64_t (*order_fn)(const struct process *p);

static int64_t by_rss(const struct process *p)
{
    return p->rss_bytes;
}

static int64_t by_growth(const struct process *p)
{
    return p->rss_bytes - p->rss_then;
}

static int64_t by_files(const struct process *p)
{
    return p->open_files;
}

static void select_by(struct process_list *l, uint32_t top, order_fn order)
{
    struct process *best[PROCESSES_TOP_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_now; i++) {
        struct process *p = &l->now[i];
        int64_t value = order(p);
        if (value <= 0 || p->kernel_thread || !p->seen_before ||
            (n == top && value <= order(best[n - 1]))) {
            continue;
        }
        uint32_t at = n < top ? n++ : n - 1;
        for (; at > 0 && order(best[at - 1]) < value; at--) {
            best[at] = best[at - 1];
        }
        best[at] = p;
    }
    for (uint32_t i = 0; i < n; i++) {
        best[i]->selected++;
    }
}

bool process_list_has_program(const struct process_list *l,
                              const struct process *p)
{
    for (uint32_t i = 0; i < l->n_programs; i++) {
        const struct process *known = &l->now[l->programs[i]];
        if (known->name_len == p->name_len &&
            memcmp(known->name, p->name, p->name_len) == 0) {
            return true;
        }
    }
    return false;
}

void process_list_select(struct process_list *l, uint32_t top)
{
    if (top > PROCESSES_TOP_MAX) {
        top = PROCESSES_TOP_MAX;
    }
    for (uint32_t i = 0; i < l->n_now; i++) {
        l->now[i].selected = 0;
    }
    if (top > 0) {
        select_by(l, top, by_rss);
        select_by(l, top, by_growth);
        select_by(l, top, by_files);
    }
    l->n_programs = 0;
    for (uint32_t i = 0; i < l->n_now; i++) {
        const struct process *p = &l->now[i];
        if (p->selected > 0 && !process_list_has_program(l, p)) {
            l->programs[l->n_programs++] = i;
        }
    }
}
