/* What the spool's files share: spool.c appends, drops and acknowledges,
 * spool_open.c starts and stops, spool_scan.c looks what is there at the start,
 * spool_reader.c reads. */
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

/* Cut the file of @g behind its g->bytes. */
void spool_cut_segment(struct spool *s, const struct spool_segment *g);

/* How many of the seqs from @first to @last are not known to be acknowledged.
 */
uint64_t spool_count_unacked(const struct spool *s, const uint8_t *stream,
                             uint64_t first, uint64_t last);

/* Read what the folder holds and make it whole; at the start. */
PSC_MUST_CHECK int spool_scan(struct spool *s);

/* Close the file that is appended to. */
void spool_seal(struct spool *s);

/* The record at @at of memory, and its length. False at the end. */
bool spool_memory_record(const struct spool *s, size_t at,
                         struct spool_record *record, size_t *size);

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

/* Open segment @number whatever its header says, behind that. */
PSC_MUST_CHECK int spool_reader_reopen(struct spool_reader *r, struct spool *s,
                                       uint32_t number);

/* What records of a damaged file say of the seqs that it had. */
struct spool_survey {
    uint64_t oldest; /* first that was found; 0: none */
    uint64_t newest; /* last; to begin with the last one known before, or 0 */
};

/* Look for records behind damage, to the end of the file. */
PSC_MUST_CHECK int spool_reader_survey(struct spool_reader *r, struct spool *s,
                                       struct spool_survey *survey);

static inline bool same_stream(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, SPOOL_STREAM_BYTES) == 0;
}

#endif
