/* Names in a map, numbers in a grid. */
#include "tests/lib/decoded.h"

void decoded_init(struct decoded *d, uint32_t columns, uint32_t max_entries,
                  size_t max_key_bytes)
{
    *d = (struct decoded){.chain = {.len = 0}};
    psc_map_init(&d->names, max_entries, max_key_bytes);
    grid_init(&d->grid, columns, max_entries, NULL);
    grid_changes_init(&d->changes, NULL);
}

void decoded_fini(struct decoded *d)
{
    psc_map_fini(&d->names);
    grid_fini(&d->grid);
    grid_changes_fini(&d->changes);
}

static int add_names(struct decoded *d, struct psc_bytes names,
                     struct psc_error *err)
{
    struct name_reader r;
    name_reader_init(&r, names, &d->chain);
    while (name_reader_next(&r)) {
        uint32_t at;
        int rc = psc_map_add(&d->names, r.key, r.len, &at);
        if (rc == PSC_OK && at < d->grid.n) {
            return psc_error_set(err, PSC_FORMAT, "a key comes twice");
        }
        if (rc == PSC_OK) {
            rc = grid_add(&d->grid, at, r.flags);
        }
        if (rc != PSC_OK) {
            return psc_error_set(err, rc, "no room for a name");
        }
    }
    return name_reader_ok(&r) ? PSC_OK
                              : psc_error_set(err, PSC_FORMAT, "bad name");
}

int decoded_apply(struct decoded *d, const struct columns *in, bool first,
                  struct psc_error *err)
{
    const struct grid_part part = {in->gone, in->gaps, in->values};
    d->changes.n_changed = 0;
    d->changes.n_gone = 0;
    if (in->keyframe && first) {
        psc_map_clear(&d->names);
        grid_clear(&d->grid);
        d->chain.len = 0;
    } else if (!d->grid.complete) {
        return psc_error_set(err, PSC_NEED_KEYFRAME, "no keyframe before it");
    }
    d->grid.complete = false;
    uint32_t known = in->keyframe ? d->grid.n : 0;
    int rc = add_names(d, in->names, err);
    if (rc == PSC_OK && in->keyframe && in->gone.len > 0) {
        rc = psc_error_set(err, PSC_FORMAT, "gone in a keyframe");
    }
    return rc == PSC_OK ? grid_apply(&d->grid, known, &part, &d->changes, err)
                        : rc;
}
