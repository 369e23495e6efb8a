/* What a host remembers of series whose findings fell back in this boot: how
 * high they had been, where they fell to and when, so that what swings is not
 * taken for a leak at each swing. Few series ever have one. */
#ifndef PSC_DETECT_SWING_H
#define PSC_DETECT_SWING_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/detect/series.h"
#include "collector/detect/suspect.h"

#define SWINGS_MAX 256 /* a host's; beyond it the one that fell first goes */

struct detect_host;

struct swing {
    uint32_t id;     /* the series' */
    uint32_t falls;  /* of its findings */
    int64_t fell_us; /* when it last came down, found or not … */
    float low;       /* … to this floor */
    float high;      /* highest floor since */
    float top;       /* highest floor of its findings */
};

/* What is remembered of tag @id, or NULL. */
const struct swing *swing_of(const struct detect_host *h, uint32_t id);

/* A finding with @s fell back; @m is its ring or NULL. Without memory it is
 * not remembered. */
void swing_fell(struct detect_host *h, const struct series *s,
                const struct mover *m);

/* A fast window closed: see what else came down. */
void swing_window(struct detect_host *h);

/* Whether @climb, the growth that the fast floors @p show, is one more of the
 * swings that @w tells of, and no leak. */
bool swing_explains(const struct swing *w, const struct trend_points *p,
                    int64_t window_us, const struct suspect *climb);

#endif
