/* One table (tags, or counters) of one sample as the store's fresh tier keeps
 * it, columns `tags` and `counters` of table fresh:
 *
 *   1 byte   version, 1
 *   varint   names; for each 1 byte of flags, varint id: what the dictionary
 *            grows by. Id 0: an entry that is nobody's; readers leave it out,
 *            but it has its position
 *   string   gone   } as on the wire (docs/protocol.md, Columns)
 *   string   gaps   }
 *   rest     values }
 *
 * A row is a keyframe or a delta; column tags_kind (counters_kind) says which.
 * A keyframe begins the dictionary anew and holds every entry, so rows of a
 * host, in order of n from a keyframe on, need nothing else.
 *
 * What the writer promises: integers are within STORED_VALUE_MAX, no two
 * entries of a dictionary that are not 0 have the same id. Readers survive
 * any bytes. Pure; stored.c needs nothing but grid.c, common/buf and
 * common/error. */
#ifndef PSC_PROTO_STORED_H
#define PSC_PROTO_STORED_H

#include "proto/grid.h"

enum { STORED_VERSION = 1 };
#define STORED_VALUE_MAX ((INT64_C(1) << 61) - 1)

enum stored_kind { STORED_NONE = 0, STORED_DELTA = 1, STORED_KEYFRAME = 2 };

/* Write a table: version and count of names, then each name, then the numbers.
 * They append; test with psc_buf_error(). */
void stored_begin(struct psc_buf *out, uint32_t n_names);
void stored_name(struct psc_buf *out, uint8_t flags, uint32_t id);
void stored_numbers(struct psc_buf *out, const struct grid_part *part);

/* Apply a stored table to @g, whose refs become ids. Returns 0, PSC_NOMEM,
 * PSC_FORMAT (damage), PSC_UNSUPPORTED (another version), or PSC_NEED_KEYFRAME
 * (a delta on an incomplete grid). */
PSC_MUST_CHECK int stored_apply(struct grid *g, struct psc_bytes data,
                                bool keyframe, struct grid_changes *changes,
                                struct psc_error *err);

#endif
