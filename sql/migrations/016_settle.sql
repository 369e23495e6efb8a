-- Settling: rows of the fresh tier become chunks, and slots are emptied whose
-- rows have. The collector's worker packs; here stands what it reads, the one
-- statement that it writes with, and housekeeping.

ALTER TABLE poolscope_data.host_settle
    ADD tags_from_at timestamptz,   -- time of the oldest row that is not
    ADD counters_from_at timestamptz, -- settled; NULL: look
    ADD failed text;                -- why it is to be tried again

-- What has to be over before a slot is counted, and before it is emptied.
ALTER TABLE poolscope_data.fresh_slot
    ADD closed_xid xid8,
    ADD settled_xid xid8,           -- when all its rows were first seen
    ADD settled_at timestamptz;     -- settled

-- Rows of usual size lie as they are: trying to compress them gains nothing.
DO $$
BEGIN
    FOR i IN 0 .. 7 LOOP
        EXECUTE format('ALTER TABLE poolscope_data.fresh_%s '
                       'SET (toast_tuple_target = 8160)', i);
    END LOOP;
END $$;

-- -------------------------------------------------------------- what is due

-- How long the chunks of a host are. Slow ones have few samples an hour.
CREATE FUNCTION poolscope_data.settle_span(p_interval_us bigint)
RETURNS interval LANGUAGE sql STABLE
SET search_path = poolscope_data, pg_temp AS $$
    SELECT CASE WHEN s.span < interval '1 hour' AND s.span > interval '0'
        THEN s.span
        ELSE CASE WHEN p_interval_us <= 75000000 THEN interval '1 hour'
                  WHEN p_interval_us <= 150000000 THEN interval '2 hours'
                  ELSE interval '4 hours' END END
    FROM (SELECT setting_interval('settle_span') AS span) s
$$;

CREATE FUNCTION poolscope_data.span_of(p_span interval, p_at timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT date_bin(p_span, p_at, timestamptz '2000-01-01 00:00:00+00')
$$;

-- The oldest row of a table that is not settled.
CREATE FUNCTION poolscope_data.settle_first(
    p_host_id bigint, p_kind text, p_settled_n bigint,
    OUT at timestamptz, OUT keyframe boolean)
LANGUAGE plpgsql STABLE
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    IF p_kind = 'tags' THEN
        SELECT f.at, f.tags_kind = 2 INTO at, keyframe FROM fresh f
        WHERE f.host_id = p_host_id AND f.n > p_settled_n AND f.tags_kind > 0
        ORDER BY f.n LIMIT 1;
    ELSE
        SELECT f.at, f.counters_kind = 2 INTO at, keyframe FROM fresh f
        WHERE f.host_id = p_host_id AND f.n > p_settled_n
          AND f.counters_kind > 0
        ORDER BY f.n LIMIT 1;
    END IF;
END $$;

-- The first keyframe of the span in which the newest rows of a table are: up
-- to there everything can be settled. NULL: no keyframe in it yet.
CREATE FUNCTION poolscope_data.settle_end(
    p_host_id bigint, p_kind text, p_settled_n bigint, p_newest_n bigint,
    p_span interval, p_newest_at timestamptz)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    f record;
    present timestamptz := span_of(p_span, p_newest_at);
    found_n bigint;
BEGIN
    FOR f IN
        SELECT r.n, r.at, CASE p_kind WHEN 'tags' THEN r.tags_kind
                          ELSE r.counters_kind END AS kind
        FROM fresh r
        WHERE r.host_id = p_host_id AND r.n > p_settled_n
          AND r.n <= p_newest_n
        ORDER BY r.n DESC
    LOOP
        CONTINUE WHEN f.kind = 0;
        EXIT WHEN f.at < present OR f.at >= present + p_span;
        IF f.kind = 2 THEN
            found_n := f.n;
        END IF;
    END LOOP;
    RETURN found_n;
END $$;

-- Has nothing come of this host for long? Times of samples do not tell: an
-- agent may be sending what it has kept for days. The slot of its newest row
-- does, since it was closed after that.
CREATE FUNCTION poolscope_data.settle_silent(p_host_id bigint, p_n bigint)
RETURNS boolean LANGUAGE sql STABLE
SET search_path = poolscope_data, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM fresh f JOIN fresh_slot s USING (slot)
        WHERE f.host_id = p_host_id AND f.n = p_n
          AND s.closed_at < now() - interval '30 minutes')
$$;

-- Note the time of a table's oldest unsettled row, which was not known.
CREATE FUNCTION poolscope_data.settle_note(
    p_host_id bigint, p_kind text, p_settled_n bigint, p_at timestamptz)
RETURNS void LANGUAGE plpgsql
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    INSERT INTO host_settle (host_id) VALUES (p_host_id)
    ON CONFLICT DO NOTHING;
    IF p_kind = 'tags' THEN
        UPDATE host_settle SET tags_from_at = p_at
        WHERE host_id = p_host_id AND tags_n = p_settled_n;
    ELSE
        UPDATE host_settle SET counters_from_at = p_at
        WHERE host_id = p_host_id AND counters_n = p_settled_n;
    END IF;
END $$;

-- Tables that can be settled: up to the row before upto_n, or all there are if
-- it is NULL. In an order of this session's own, so that two collectors seldom
-- work at the same host; which of them stores it settle_store() decides.
CREATE FUNCTION poolscope_api.settle_due(p_max integer)
RETURNS TABLE (host_id bigint, table_kind text, settled_n bigint,
               upto_n bigint, span_us bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    d record;
    left_over integer := p_max;
    from_at timestamptz;
    -- Two that note the same hosts in their orders would deadlock.
    notes boolean := pg_try_advisory_xact_lock(hashtext('poolscope settle'));
BEGIN
    FOR d IN
        WITH spans AS MATERIALIZED (
            SELECT i.interval_us, settle_span(i.interval_us) AS span
            FROM (SELECT DISTINCT coalesce(interval_us, 60000000)
                  AS interval_us FROM host_state
                  UNION SELECT 60000000) i)
        SELECT c.host_id, k.kind, k.settled_n, k.newest_n, k.newest_at,
            k.from_at, c.n, x.span,
            coalesce(c.last_at < now() - greatest(interval '90 minutes',
                2 * h.interval_us * interval '1 microsecond'), true)
            AND (NOT in_range(k.newest_at) OR now()
                 > span_of(x.span, k.newest_at) + x.span) AS quiet,
            coalesce(c.last_at >= span_of(x.span, k.newest_at) + 2 * x.span,
                     false) AS ended
        FROM ingest_cursor c
        LEFT JOIN host_settle s USING (host_id)
        LEFT JOIN host_state h USING (host_id)
        CROSS JOIN LATERAL (VALUES
            ('tags', coalesce(s.tags_n, 0), c.tags_n, c.tags_at,
             s.tags_from_at),
            ('counters', coalesce(s.counters_n, 0), c.counters_n,
             c.counters_at, s.counters_from_at))
            k(kind, settled_n, newest_n, newest_at, from_at)
        JOIN spans x ON x.interval_us = coalesce(h.interval_us, 60000000)
        WHERE k.newest_n > k.settled_n
          AND (s.retry_at IS NULL OR s.retry_at <= now())
          AND (k.from_at IS NULL
               OR span_of(x.span, k.from_at) <> span_of(x.span, k.newest_at)
               OR coalesce(c.last_at < now() - interval '90 minutes', true)
               OR c.last_at >= span_of(x.span, k.newest_at) + 2 * x.span)
        ORDER BY hashint8extended(c.host_id, pg_backend_pid()), k.kind
    LOOP
        EXIT WHEN left_over <= 0;
        from_at := d.from_at;
        IF from_at IS NULL THEN
            from_at := (SELECT f.at FROM settle_first(
                            d.host_id, d.kind, d.settled_n) f);
            IF notes AND from_at IS NOT NULL THEN
                PERFORM settle_note(d.host_id, d.kind, d.settled_n, from_at);
            END IF;
        END IF;
        upto_n := NULL;
        IF span_of(d.span, from_at) <> span_of(d.span, d.newest_at) THEN
            upto_n := settle_end(d.host_id, d.kind, d.settled_n, d.newest_n,
                                 d.span, d.newest_at);
        END IF;
        -- A table may also end while its host goes on with the other one.
        IF from_at IS NOT NULL AND (upto_n IS NOT NULL OR d.ended
            OR d.quiet AND settle_silent(d.host_id, d.n))
        THEN
            host_id := d.host_id;
            table_kind := d.kind;
            settled_n := d.settled_n;
            span_us := (extract(epoch FROM d.span) * 1000000)::bigint;
            left_over := left_over - 1;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- Fresh rows that have the table, to be read by host in the order of n. Views,
-- since they pass rows on one by one: a function would keep them all first.
CREATE VIEW poolscope_api.fresh_tags AS
SELECT f.host_id, f.n, f.at, f.wall_at, f.boot_id,
    f.tags_kind = 2 AS keyframe, f.tags AS data
FROM poolscope_data.fresh f WHERE f.tags_kind > 0;

CREATE VIEW poolscope_api.fresh_counters AS
SELECT f.host_id, f.n, f.at, f.wall_at, f.boot_id,
    f.counters_kind = 2 AS keyframe, f.counters AS data
FROM poolscope_data.fresh f WHERE f.counters_kind > 0;

-- ------------------------------------------------------------------ storing

-- Nothing is known of a host's next row: whoever sends it has to begin with a
-- keyframe, which every session does. So the present one ends with its next
-- batch, if it still lives.
CREATE FUNCTION poolscope_data.settle_fence(p_host_id bigint)
RETURNS void LANGUAGE sql
SET search_path = poolscope_data, pg_temp AS $$
    UPDATE ingest_cursor SET session = session + 1 WHERE host_id = p_host_id
$$;

-- Chunks of all of a host's rows beyond p_expected_n up to p_new_n. False, and
-- nothing done, if they are settled already, or if the row that follows could
-- not be read without them. One statement, so it is done as a whole or not.
CREATE FUNCTION poolscope_api.settle_store(
    p_host_id bigint, p_kind text, p_expected_n bigint, p_new_n bigint,
    p_span_ats timestamptz[], p_n_froms bigint[], p_n_tos bigint[],
    p_at_froms timestamptz[], p_at_tos timestamptz[], p_snapshots integer[],
    p_heads bytea[], p_levels bytea[], p_datas bytea[])
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    following record;
BEGIN
    following := settle_first(p_host_id, p_kind, p_new_n);
    IF following.at IS NULL THEN
        PERFORM FROM ingest_cursor WHERE host_id = p_host_id FOR UPDATE;
        following := settle_first(p_host_id, p_kind, p_new_n);
    END IF;
    IF NOT following.keyframe THEN
        RETURN false;
    END IF;

    INSERT INTO host_settle (host_id) SELECT p_host_id
    WHERE p_expected_n = 0 ON CONFLICT DO NOTHING;
    IF p_kind = 'tags' THEN
        UPDATE host_settle SET tags_n = p_new_n, tags_from_at = following.at,
            retry_at = NULL, failed = NULL
        WHERE host_id = p_host_id AND tags_n = p_expected_n
          AND p_new_n > p_expected_n;
    ELSE
        UPDATE host_settle SET counters_n = p_new_n,
            counters_from_at = following.at, retry_at = NULL, failed = NULL
        WHERE host_id = p_host_id AND counters_n = p_expected_n
          AND p_new_n > p_expected_n;
    END IF;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF following.at IS NULL THEN
        PERFORM settle_fence(p_host_id);
    END IF;

    PERFORM summary_touch(p_host_id, p_kind, p_span_ats);
    IF p_kind = 'tags' THEN
        INSERT INTO tag_chunk SELECT p_host_id, c.*
        FROM unnest(p_span_ats, p_n_froms, p_n_tos, p_at_froms, p_at_tos,
                    p_snapshots, p_heads, p_levels, p_datas) c;
    ELSE
        INSERT INTO counter_chunk SELECT p_host_id, c.*
        FROM unnest(p_span_ats, p_n_froms, p_n_tos, p_at_froms, p_at_tos,
                    p_snapshots, p_heads, p_levels, p_datas) c;
    END IF;
    RETURN true;
END $$;

-- A host's rows cannot be settled: other hosts go on, this one is tried again
-- an hour later. Its rows stay readable where they are.
CREATE FUNCTION poolscope_api.settle_failed(p_host_id bigint, p_why text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    INSERT INTO host_settle (host_id, retry_at, failed)
    VALUES (p_host_id, now() + interval '1 hour', p_why)
    ON CONFLICT (host_id) DO UPDATE
    SET retry_at = excluded.retry_at, failed = excluded.failed;
END $$;

-- -------------------------------------------------------------------- slots

-- Is everything over that ran, or could look, when p_xid was running? A
-- snapshot from before then shows rows of a slot as not settled, and TRUNCATE
-- would take them from under it. Idle transactions of repeatable read count,
-- pg_dump does, and standbys that give feedback; the ring waits for them.
-- Autovacuum does not, it reads nothing. A number that has not been given out yet
-- is from another cluster, from before a dump was restored here.
CREATE FUNCTION poolscope_data.is_over(p_xid xid8) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    present pg_snapshot := pg_current_snapshot();
BEGIN
    IF p_xid >= pg_snapshot_xmax(present) THEN
        RETURN p_xid > pg_current_xact_id();
    END IF;
    RETURN p_xid < pg_snapshot_xmin(present) AND NOT EXISTS (
        SELECT FROM pg_stat_activity a
        WHERE a.pid <> pg_backend_pid() AND a.backend_xmin IS NOT NULL
          AND a.usesysid IS NOT NULL
          AND (a.datname = current_database() OR a.datname IS NULL)
          AND age(a.backend_xmin) >= age(p_xid::xid));
END $$;

-- Are all rows of a slot settled? Rows without tables count as settled. By the
-- cursors, since a host's rows beyond what is settled are few, and an index
-- tells whether any of them lies here.
CREATE FUNCTION poolscope_data.slot_is_settled(p_slot smallint)
RETURNS boolean LANGUAGE sql VOLATILE
SET search_path = poolscope_data, pg_temp AS $$
    SELECT NOT EXISTS (
        SELECT FROM ingest_cursor c
        LEFT JOIN host_settle s USING (host_id)
        WHERE c.tags_n > coalesce(s.tags_n, 0) AND EXISTS (
            SELECT FROM fresh f WHERE f.slot = p_slot
              AND f.host_id = c.host_id AND f.n > coalesce(s.tags_n, 0)
              AND f.tags_kind > 0)
        OR c.counters_n > coalesce(s.counters_n, 0) AND EXISTS (
            SELECT FROM fresh f WHERE f.slot = p_slot
              AND f.host_id = c.host_id AND f.n > coalesce(s.counters_n, 0)
              AND f.counters_kind > 0))
$$;

-- Empty one slot if it may be: all rows have been settled for an hour, in which
-- detection reads what it has not seen yet, and nobody is left who saw them
-- otherwise. The lock waits for readers, and those
-- that come meanwhile wait for it, so it soon gives up.
CREATE FUNCTION poolscope_data.slot_empty(p_slot smallint) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = poolscope_data, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    s fresh_slot;
BEGIN
    SELECT * INTO s FROM fresh_slot WHERE slot = p_slot FOR UPDATE;
    IF s.present OR s.closed_at IS NULL
       OR s.closed_at > now() - interval '1 hour'
       OR s.settled_at > now() - interval '1 hour'
       OR NOT is_over(coalesce(s.settled_xid, s.closed_xid)) THEN
        RETURN false;
    END IF;
    IF s.settled_xid IS NULL THEN
        UPDATE fresh_slot
        SET settled_xid = pg_current_xact_id(), settled_at = now()
        WHERE slot = p_slot AND slot_is_settled(p_slot);
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE fresh_%s IN ACCESS EXCLUSIVE MODE', p_slot);
    IF NOT slot_is_settled(p_slot) THEN
        UPDATE fresh_slot SET settled_xid = NULL, settled_at = NULL
        WHERE slot = p_slot;
        RETURN false;
    END IF;
    EXECUTE format('TRUNCATE fresh_%s', p_slot);
    UPDATE fresh_slot SET opened_at = NULL, closed_at = NULL,
        closed_xid = NULL, settled_xid = NULL, settled_at = NULL
    WHERE slot = p_slot;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Empty a slot, and go to an empty one when the present one is an hour old, or
-- large while others are to spare. A slot that something keeps from being
-- emptied is passed over; when none is empty, the present one grows.
CREATE FUNCTION poolscope_api.fresh_turn(
    OUT turned boolean, OUT emptied integer, OUT full_slots integer,
    OUT stuck boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    s fresh_slot;
    next_slot smallint;
    empty bigint;
    aged boolean;
BEGIN
    turned := false;
    emptied := 0;
    IF NOT pg_try_advisory_xact_lock(hashtext('poolscope fresh_turn')) THEN
        RETURN;
    END IF;
    FOR s IN SELECT * FROM fresh_slot WHERE closed_at IS NOT NULL
             ORDER BY closed_at
    LOOP
        IF slot_empty(s.slot) THEN
            emptied := 1;
            EXIT; -- the lock lasts until the end: one at a time
        END IF;
    END LOOP;

    SELECT * INTO STRICT s FROM fresh_slot WHERE present;
    SELECT o.slot INTO next_slot FROM fresh_slot o
    WHERE NOT o.present AND o.opened_at IS NULL
    ORDER BY (o.slot - s.slot + 8) % 8 LIMIT 1;
    empty := (SELECT count(*) FROM fresh_slot WHERE opened_at IS NULL);
    aged := s.opened_at <= now() - interval '1 hour';
    IF empty > 0 AND (aged OR empty > 2 AND pg_table_size(
            format('poolscope_data.fresh_%s', s.slot)::regclass) > 1 << 30)
    THEN
        UPDATE fresh_slot SET present = false, closed_at = now(),
            closed_xid = pg_current_xact_id()
        WHERE slot = s.slot;
        UPDATE fresh_slot SET present = true, opened_at = now()
        WHERE slot = next_slot;
        turned := true;
    END IF;
    full_slots := (SELECT count(*) FROM fresh_slot
                   WHERE NOT present AND opened_at IS NOT NULL);
    stuck := aged AND NOT turned;
END $$;

-- ------------------------------------------------------------- housekeeping

-- What settling has met in rows. So names stay that some host still has,
-- though no collector asks for their ids any more.
CREATE FUNCTION poolscope_api.registry_seen(p_tag_ids integer[],
                                            p_counter_ids integer[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    -- In one order, as intern_tags() has it.
    WITH due AS MATERIALIZED (
        SELECT t.tag_id FROM tag t
        WHERE t.tag_id = ANY (p_tag_ids)
          AND t.last_seen < now() - interval '7 days'
        ORDER BY t.tag_id FOR UPDATE
    )
    UPDATE tag t SET last_seen = now() FROM due WHERE t.tag_id = due.tag_id;
    WITH due AS MATERIALIZED (
        SELECT t.counter_id FROM counter_name t
        WHERE t.counter_id = ANY (p_counter_ids)
          AND t.last_seen < now() - interval '7 days'
        ORDER BY t.counter_id FOR UPDATE
    )
    UPDATE counter_name t SET last_seen = now()
    FROM due WHERE t.counter_id = due.counter_id;
END $$;

-- Tags and counters that no host has had for half a year leave the registry.
-- Collectors learn of it by the epoch and forget the ids that they hold.
CREATE OR REPLACE FUNCTION poolscope_data.registry_forget() RETURNS void
LANGUAGE plpgsql SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    kept interval := greatest(interval '180 days',
                              2 * setting_interval('retention_points'),
                              2 * setting_interval('retention_hours'));
    forgotten bigint;
    counters bigint;
BEGIN
    DELETE FROM tag t
    WHERE t.last_seen < now() - kept
      AND NOT EXISTS (SELECT FROM leak l WHERE l.tag_id = t.tag_id);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    DELETE FROM counter_name WHERE last_seen < now() - kept;
    GET DIAGNOSTICS counters = ROW_COUNT;
    IF forgotten + counters > 0 THEN
        UPDATE setting SET value = (value::bigint + 1)::text
        WHERE name = 'registry_epoch';
    END IF;
END $$;

-- The same for rows that no partition holds. Those of impossible times go when
-- everything that came before them is gone: n tells, since it counts arrivals,
-- whatever their clocks said.
CREATE OR REPLACE FUNCTION poolscope_data.default_rows_drop() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    kind record;
BEGIN
    FOR kind IN
        SELECT k.parent, k.at_column, k.retention,
            CASE k.parent WHEN 'event' THEN 'n' ELSE 'n_to' END AS n_column
        FROM poolscope_data.partitioned k
        WHERE k.parent IN ('tag_chunk', 'counter_chunk', 'event')
    LOOP
        EXECUTE format(
            'DELETE FROM poolscope_data.%1$I d '
            'WHERE d.%3$I < now() - $1 AND d.%3$I >= ''2000-01-01 00:00+00'' '
            'AND NOT EXISTS (SELECT FROM poolscope_data.summary_due w '
            '  WHERE w.host_id = d.host_id AND w.step = ''hour'' '
            '  AND w.retry_at IS NULL AND %5$L <> ''event'' '
            '  AND w.from_at = date_trunc(''day'', d.%3$I, ''UTC'')) '
            'OR NOT poolscope_data.in_range(d.%3$I - interval ''23 hours'') '
            'AND d.%4$I < (SELECT s.%4$I FROM poolscope_data.%2$I s '
            '  WHERE s.host_id = d.host_id AND s.%3$I >= now() - $1 '
            '  AND s.%3$I <= now() ORDER BY s.%3$I LIMIT 1)',
            kind.parent || '_default', kind.parent, kind.at_column,
            kind.n_column, kind.parent)
        USING poolscope_data.setting_interval(kind.retention);
    END LOOP;
    FOR kind IN
        SELECT k.parent, k.at_column, k.retention,
            ('1 ' || k.step)::interval AS step
        FROM poolscope_data.partitioned k
        WHERE k.parent IN ('tag_hours', 'counter_hours', 'tag_days',
                           'counter_days')
    LOOP
        EXECUTE format(
            'DELETE FROM poolscope_data.%1$I d WHERE d.%2$I IN ('
            '  SELECT x.%2$I FROM (SELECT DISTINCT %2$I '
            '    FROM poolscope_data.%1$I WHERE %2$I < now() - $1 - $2) x '
            '  WHERE NOT poolscope_data.partition_waits('
            '    %3$L, x.%2$I, x.%2$I + interval ''1 day''))',
            kind.parent || '_default', kind.at_column, kind.parent)
        USING poolscope_data.setting_interval(kind.retention), kind.step;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION poolscope_api.maintain(p_budget interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp
SET lock_timeout = '2s' AS $$
DECLARE
    dropped integer := 0;
    ahead record;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('poolscope maintain')) THEN
        RETURN jsonb_build_object('busy', true, 'more', false);
    END IF;
    UPDATE maintenance SET next_at = now() + interval '1 day'
    WHERE job = 'daily' AND next_at <= now();
    IF FOUND THEN
        PERFORM default_rows_drop();
        PERFORM registry_forget();
    END IF;
    -- Last, since they hold locks until the end that readers wait for; a drop
    -- those of the whole table, which settling waits for too.
    ahead := partitions_ahead();
    dropped := partitions_drop();
    RETURN jsonb_build_object('partitions_made', ahead.made,
        'partitions_dropped', dropped, 'more', false, 'failed', ahead.failed);
END $$;

-- Summaries by roll-up are no more. What an earlier version made is kept under
-- another name for as long as it would have been.
DROP FUNCTION IF EXISTS poolscope_data.partition_waits(text);
DROP FUNCTION poolscope_data.hour_summarise(bigint, timestamptz),
    poolscope_data.host_rollup(bigint, timestamptz);
SELECT poolscope_data.partitions_ahead();

GRANT EXECUTE ON FUNCTION
    poolscope_api.settle_due(integer),
    poolscope_api.settle_store(bigint, text, bigint, bigint, timestamptz[],
        bigint[], bigint[], timestamptz[], timestamptz[], integer[], bytea[],
        bytea[], bytea[]),
    poolscope_api.settle_failed(bigint, text),
    poolscope_api.fresh_turn(),
    poolscope_api.registry_seen(integer[], integer[])
    TO poolscope_writer;
GRANT SELECT ON poolscope_api.fresh_tags, poolscope_api.fresh_counters
    TO poolscope_writer;
