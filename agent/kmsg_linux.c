/* Dumps of the kernel log: see kmsg_linux.h. This file keeps the dumps that
 * are open and finds the one a line belongs to; kmsg_lines_linux.c knows the
 * lines. */
#include "agent/kmsg_linux.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/kmsg_lines_linux.h"

bool kmsg_parse(struct text line, struct kmsg_record *out)
{
    struct text prefix;
    if (text_left(&line) == 0 || *line.at < '0' || *line.at > '9' ||
        !text_until(&line, ";", &prefix)) {
        return false;
    }
    uint64_t priority, at;
    if (!text_u64(&prefix, &priority) || !text_take(&prefix, ",") ||
        !text_u64(&prefix, &out->seq) || !text_take(&prefix, ",") ||
        !text_u64(&prefix, &at)) {
        return false;
    }
    out->at_us = text_clamp(at);
    struct text before;
    out->caller = text_of(prefix.end, 0);
    if (text_until(&prefix, ",caller=", &before)) {
        out->caller = prefix;
        const char *comma = memchr(prefix.at, ',', text_left(&prefix));
        if (comma != NULL) {
            out->caller.end = comma;
        }
    }
    out->message = line;
    return true;
}

const char *kernel_event_name(enum kernel_event_kind kind)
{
    switch (kind) {
    case KERNEL_SLAB_FAILURE: return "slab_allocation_failure";
    case KERNEL_PAGE_FAILURE: return "page_allocation_failure";
    case KERNEL_VMAP_FAILURE: return "vmap_allocation_failure";
    case KERNEL_OOM: return "oom_kill";
    case KERNEL_UNLOAD_LEAK: return "module_unload_leak";
    case KERNEL_LOST: return "records_lost";
    case KERNEL_NONE:
    default: return "?";
    }
}

void kernel_dumps_init(struct kernel_dumps *d, kernel_event_fn on_event,
                       void *ctx)
{
    memset(d, 0, sizeof(*d));
    d->on_event = on_event;
    d->ctx = ctx;
}

static void finish(struct kernel_dumps *d, struct kernel_dump *dump)
{
    d->on_event(d->ctx, dump);
    dump->kind = KERNEL_NONE;
}

/* The open dump that began first, or NULL. */
static struct kernel_dump *oldest(struct kernel_dumps *d)
{
    struct kernel_dump *found = NULL;
    for (size_t i = 0; i < KERNEL_DUMPS_MAX; i++) {
        struct kernel_dump *dump = &d->open[i];
        if (dump->kind != KERNEL_NONE &&
            (found == NULL || dump->seq < found->seq)) {
            found = dump;
        }
    }
    return found;
}

uint64_t kernel_dumps_position(const struct kernel_dumps *d, uint64_t next)
{
    for (size_t i = 0; i < KERNEL_DUMPS_MAX; i++) {
        if (d->open[i].kind != KERNEL_NONE && d->open[i].seq < next) {
            next = d->open[i].seq;
        }
    }
    return next;
}

void kernel_dumps_flush(struct kernel_dumps *d, int64_t now_us)
{
    for (size_t i = 0; i < KERNEL_DUMPS_MAX; i++) {
        struct kernel_dump *dump = oldest(d);
        if (dump == NULL) {
            return;
        }
        /* Oldest first, so that events come in order; a later dump waits. */
        if (!dump->complete && now_us != INT64_MAX &&
            now_us - dump->last_us < KERNEL_DUMP_QUIET_US) {
            return;
        }
        finish(d, dump);
    }
}

static struct kernel_dump *new_dump(struct kernel_dumps *d)
{
    for (size_t i = 0; i < KERNEL_DUMPS_MAX; i++) {
        if (d->open[i].kind == KERNEL_NONE) {
            return &d->open[i];
        }
    }
    struct kernel_dump *dump = oldest(d);
    finish(d, dump);
    return dump;
}

static bool same_caller(const struct kernel_dump *dump,
                        const struct kmsg_record *r)
{
    size_t len = strlen(dump->caller);
    return text_left(&r->caller) == len &&
           memcmp(dump->caller, r->caller.at, len) == 0;
}

/* The dump of this record's caller that lacks such a line; the oldest. */
static struct kernel_dump *owner_of(struct kernel_dumps *d,
                                    const struct kmsg_record *r,
                                    const struct kernel_line *line)
{
    struct kernel_dump *found = NULL;
    for (size_t i = 0; i < KERNEL_DUMPS_MAX; i++) {
        struct kernel_dump *dump = &d->open[i];
        if (dump->kind == KERNEL_NONE || dump->complete ||
            !same_caller(dump, r) || !kernel_line_fits(line, dump)) {
            continue;
        }
        if (found == NULL || dump->seq < found->seq) {
            found = dump;
        }
    }
    return found;
}

static struct kernel_dump *open_dump(struct kernel_dumps *d,
                                     const struct kmsg_record *r,
                                     const struct kernel_line *line)
{
    struct kernel_dump *dump = new_dump(d);
    memset(dump, 0, sizeof(*dump));
    dump->kind = line->head;
    dump->seq = r->seq;
    dump->at_us = r->at_us;
    dump->last_us = r->at_us;
    kernel_text_copy(dump->caller, sizeof(dump->caller), r->caller);
    kernel_text_copy(dump->message, sizeof(dump->message), line->text);
    kernel_dump_head(dump, line);
    return dump;
}

void kernel_dumps_lost(struct kernel_dumps *d, uint64_t seq, int64_t at_us,
                       uint64_t n)
{
    struct text none = text_of("", 0);
    struct kmsg_record r = {seq, at_us, none, none};
    struct kernel_line line = {.head = KERNEL_LOST,
                               .text = none,
                               .name = none,
                               .gfp = none,
                               .module = none};
    struct kernel_dump *dump = open_dump(d, &r, &line);
    dump->n_records = text_clamp(n);
    dump->complete = true;
    (void)snprintf(dump->message, sizeof(dump->message),
                   "%" PRIu64 " kernel log records were lost before they "
                   "could be read",
                   n);
    kernel_dumps_flush(d, at_us);
}

static void feed_line(struct kernel_dumps *d, const struct kmsg_record *r,
                      struct text text)
{
    struct kernel_line line;
    if (!kernel_line_parse(text, &line)) {
        return;
    }
    if (line.head != KERNEL_NONE) {
        (void)open_dump(d, r, &line);
        return;
    }
    struct kernel_dump *dump = owner_of(d, r, &line);
    if (dump == NULL) {
        if (line.kind == LINE_KILLED) { /* its beginning was lost */
            line.head = KERNEL_OOM;
            (void)open_dump(d, r, &line);
        }
        return;
    }
    dump->last_us = r->at_us;
    kernel_dump_take(dump, &line);
}

void kernel_dumps_feed(struct kernel_dumps *d, const struct kmsg_record *r)
{
    kernel_dumps_flush(d, r->at_us);
    struct text rest = r->message;
    struct text line;
    while (text_until(&rest, "\\x0a", &line)) {
        feed_line(d, r, line);
    }
    if (text_left(&rest) > 0) {
        feed_line(d, r, rest);
    }
    kernel_dumps_flush(d, r->at_us);
}
