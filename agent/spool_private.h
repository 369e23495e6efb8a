/* What the spool's files share: spool.c appends, drops and acknowledges,
 * spool_open.c starts and stops, spool_reader.c reads. */
#ifndef PSC_AGENT_SPOOL_PRIVATE_H
#define PSC_AGENT_SPOOL_PRIVATE_H

#include <string.h>

#include "agent/spool.h"

/* The file's name of segment @number. */
void spool_path(const struct spool *s, uint32_t number,
                char out[SPOOL_PATH_BYTES]);

/* Add a segment behind the others. Returns it or NULL (no memory). */
struct spool_segment *spool_add_segment(struct spool *s);

/* Forget segment @i, delete its file, count what was not acknowledged. */
void spool_drop_segment(struct spool *s, uint32_t i);

/* Close the file that is appended to. */
void spool_seal(struct spool *s);

/* Drop the first @n bytes of memory. */
void spool_consume_memory(struct spool *s, size_t n);

/* Write records from memory to the disk as far as that works. */
void spool_flush_memory(struct spool *s);

/* Write the state file if it is behind. */
void spool_save_state(struct spool *s);

/* Note that the disk failed with @status while doing @what. */
void spool_set_trouble(struct spool *s, int status, const char *what);

/* Read segment @number from its header on, which goes to @header. Returns
 * PSC_IO, PSC_FORMAT or PSC_UNSUPPORTED. */
PSC_MUST_CHECK int spool_reader_open(struct spool_reader *r, struct spool *s,
                                     uint32_t number,
                                     struct spool_header *header);

/* The next record of the file that is open. PSC_MISSING: its end; PSC_FORMAT:
 * torn or damaged here; PSC_IO; PSC_NOMEM. */
PSC_MUST_CHECK int spool_reader_record(struct spool_reader *r, struct spool *s,
                                       struct spool_record *record);

static inline bool same_stream(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, SPOOL_STREAM_BYTES) == 0;
}

#endif
