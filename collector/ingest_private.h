/* Between ingest.c (queues), ingest_unit.c (units) and ingest_refusal.c (units
 * that the database refuses) only. */
#ifndef PSC_COLLECTOR_INGEST_PRIVATE_H
#define PSC_COLLECTOR_INGEST_PRIVATE_H

#include "collector/ingest.h"

/* ingest.c */

/* The oldest batch of a queue that has some. */
struct batch *ingest_pop(struct ingest *in, struct ingest_queue *q);

/* Back to the head of its queue, to be tried again with those behind it;
 * without a session that waits for it, it is dropped. Takes @b. */
void ingest_put_back(struct ingest *in, struct batch *b);

/* The end of a batch, of all that is queued. */
void ingest_free_batch(struct ingest *in, struct batch *b);
void ingest_drop_queue(struct ingest *in, struct ingest_queue *q);

/* Let some of those read again that have waited longest. */
void ingest_resume_some(struct ingest *in);

void ingest_tell_metrics(struct ingest *in);

/* ingest_unit.c */

/* Look in so many milliseconds whether a unit is due. */
void ingest_wake(struct ingest *in, uint64_t ms);

/* What is left of the unit goes on its way: names first. */
void ingest_start_unit(struct ingest *in);

/* All of the unit is done: on to the next. */
void ingest_end_unit(struct ingest *in);

/* Tell a session what became of @b; @last: it speaks for those before it. */
void ingest_tell(struct ingest *in, const struct batch *b, bool last);

/* No more of @q: its session is told to end. */
void ingest_fence(struct ingest *in, struct ingest_queue *q,
                  enum batch_outcome why);

/* Drop the unit, close the timer, tell who waits for the end. */
void ingest_finish_stop(struct ingest *in);

/* ingest_refusal.c */

/* The unit in flight, or the one batch of it, is refused. */
void ingest_refused(struct ingest *in, const struct pglink_failure *failure);

/* One by one, something has ended: the next batch, or what it all means. */
void ingest_one_by_one(struct ingest *in);

/* Nobody gets through: the unit goes back, and everything waits. */
void ingest_wait(struct ingest *in, const struct pglink_failure *failure);

#endif
