-- Batches into table fresh: a unit of many hosts' batches is one statement.

-- The tables of the first version, which unit_store() no longer fills. Those
-- that hold rows stay under another name, with their partitions.
DO $$
DECLARE
    old text;
    used boolean;
BEGIN
    FOREACH old IN ARRAY ARRAY['snapshot', 'counter_sample', 'other_batch'] LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM poolscope_data.%I)', old)
        INTO used;
        IF used THEN
            EXECUTE format('ALTER TABLE poolscope_data.%I RENAME TO %I', old,
                           old || '_v1');
            EXECUTE format('ALTER TABLE poolscope_data.%I RENAME TO %I',
                           old || '_default', old || '_v1_default');
            UPDATE poolscope_data.partition SET parent = old || '_v1'
            WHERE parent = old;
            UPDATE poolscope_data.partitioned SET parent = old || '_v1'
            WHERE parent = old;
        ELSE
            EXECUTE format('DROP TABLE poolscope_data.%I', old);
            DELETE FROM poolscope_data.partition WHERE parent = old;
            DELETE FROM poolscope_data.partitioned WHERE parent = old;
        END IF;
    END LOOP;
END $$;

-- Rows of fresh only come, until a whole slot is emptied. A vacuum would find
-- nothing to do but mark pages, and each would be logged as a whole once more.
DO $$
BEGIN
    FOR i IN 0 .. 7 LOOP
        EXECUTE format('ALTER TABLE poolscope_data.fresh_%s '
                       'SET (autovacuum_vacuum_insert_threshold = -1, '
                       'toast.autovacuum_vacuum_insert_threshold = -1)', i);
    END LOOP;
END $$;

DROP FUNCTION poolscope_api.unit_lock(bigint[]);
DROP FUNCTION poolscope_api.batch_store(bigint, bigint, uuid, bigint, bigint,
    bigint, timestamptz, timestamptz, uuid, timestamptz, bigint, smallint,
    integer[], bigint[], bigint[], bigint[], bigint[], integer[], smallint,
    integer[], double precision[], integer[], jsonb, jsonb, jsonb, jsonb);

-- A batch of a unit, as batch_store() takes it.
CREATE TYPE poolscope_data.unit_batch AS (
    i integer,                      -- its place in the unit
    host_id bigint,
    session bigint,
    stream uuid,
    prev_seq bigint,
    first_seq bigint,
    seq bigint,
    at timestamptz,
    wall_at timestamptz,
    boot_id uuid,
    boot_at timestamptz,
    missed_ticks bigint,
    tags_kind smallint,
    counters_kind smallint,
    tags bytea,
    counters bytea,
    drivers text,
    events text,
    sources text,
    aliases text
);

-- One batch, with whatever may be odd about it. Its host's cursor is locked.
--
-- Samples of a host strictly increase in time. But where a collector's clock was
-- ahead for a while, what was stored then lies in the future: nobody waits until
-- that has come, the next sample is stored at its own time, behind the others in
-- order of n, and an event says so.
CREATE FUNCTION poolscope_data.batch_store(b poolscope_data.unit_batch,
                                           p_slot smallint)
RETURNS text LANGUAGE plpgsql
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c ingest_cursor;
    at_stored timestamptz := b.at;
    possible boolean := in_range(b.at);
    outcome text;
BEGIN
    SELECT * INTO c FROM ingest_cursor WHERE host_id = b.host_id;
    IF NOT FOUND OR c.session <> b.session THEN
        RETURN 'superseded';
    END IF;
    outcome := stream_advance(b.host_id, b.stream, b.prev_seq, b.seq);
    IF outcome <> 'stored' THEN
        RETURN outcome;
    END IF;

    IF c.boot_id IS DISTINCT FROM b.boot_id THEN
        PERFORM boot_note(c, b.boot_id, b.boot_at);
    END IF;
    c.n := c.n + 1;
    c.boot_id := b.boot_id;
    c.missed_ticks := c.missed_ticks + b.missed_ticks;
    IF b.first_seq > b.prev_seq + 1 THEN
        PERFORM own_event(b.host_id, c.n, 'batches_lost',
            (b.first_seq - b.prev_seq - 1) || ' samples never came',
            jsonb_build_object('stream', b.stream, 'from_seq',
                b.prev_seq + 1, 'to_seq', b.first_seq - 1));
    END IF;
    IF possible THEN
        IF NOT in_range(c.last_at) AND b.at <= c.last_at THEN
            PERFORM own_event(b.host_id, c.n, 'clock_stepped_back',
                'samples were stored with times that were still to come, up '
                'to ' || c.last_at,
                jsonb_build_object('at', b.at, 'last_at', c.last_at));
            c.last_at := NULL;
        END IF;
        at_stored := greatest(b.at, c.last_at + interval '1 microsecond');
        c.first_at := coalesce(c.first_at, at_stored);
        c.last_at := at_stored;
    ELSIF NOT c.out_of_range THEN
        PERFORM own_event(b.host_id, c.n, 'time_out_of_range',
            'samples carry an impossible time: ' || b.at,
            jsonb_build_object('at', b.at, 'wall_at', b.wall_at));
    END IF;
    c.out_of_range := NOT possible;

    INSERT INTO fresh VALUES (b.host_id, c.n, at_stored, b.wall_at,
        b.first_seq, b.seq, b.boot_id, b.stream, p_slot, b.tags_kind,
        b.counters_kind, b.tags, b.counters);
    IF b.tags_kind > 0 THEN
        c.tags_n := c.n;
        c.tags_at := at_stored;
        IF b.tags_kind = 2 THEN
            c.tags_keyframe_n := c.n;
        END IF;
    END IF;
    IF b.counters_kind > 0 THEN
        c.counters_n := c.n;
        c.counters_at := at_stored;
        IF b.counters_kind = 2 THEN
            c.counters_keyframe_n := c.n;
        END IF;
    END IF;
    PERFORM drivers_replace(b.host_id, at_stored, b.drivers::jsonb)
    WHERE b.drivers IS NOT NULL;
    PERFORM event_store(b.host_id, c.n, at_stored, b.boot_id,
        b.events::jsonb)
    WHERE b.events IS NOT NULL;
    UPDATE host_state SET sources = coalesce(b.sources::jsonb, sources),
        aliases = coalesce(b.aliases::jsonb, aliases)
    WHERE host_id = b.host_id
      AND (b.sources IS NOT NULL OR b.aliases IS NOT NULL);

    UPDATE ingest_cursor SET n = c.n,
        first_at = c.first_at, last_at = c.last_at, tags_at = c.tags_at,
        tags_n = c.tags_n, tags_keyframe_n = c.tags_keyframe_n,
        counters_at = c.counters_at, counters_n = c.counters_n,
        counters_keyframe_n = c.counters_keyframe_n, boot_id = c.boot_id,
        out_of_range = c.out_of_range, missed_ticks = c.missed_ticks
    WHERE host_id = b.host_id;
    RETURN 'stored';
END $$;

-- A unit: element i of each array is about batch i. All batches of a host lie
-- together, in the order in which it sent them. p_extra_of says where in the
-- arrays behind it a batch has its element, 0: nowhere.
--
-- Nearly all hosts of nearly all units have nothing odd about them: their
-- batches follow what is stored and each other, at possible times that grow, of
-- the boot that is known, and have nothing but tables. These hosts are stored
-- all at once, the others batch by batch. Both come to the same.
CREATE FUNCTION poolscope_api.unit_store(
    p_host_ids bigint[], p_sessions bigint[], p_streams uuid[],
    p_prev_seqs bigint[], p_first_seqs bigint[], p_seqs bigint[],
    p_ats timestamptz[], p_wall_ats timestamptz[], p_boot_ids uuid[],
    p_boot_ats timestamptz[], p_missed_ticks bigint[],
    p_tags_kinds smallint[], p_counters_kinds smallint[],
    p_tags bytea[], p_counters bytea[],
    p_extra_of integer[], p_drivers text[], p_events text[],
    p_sources text[], p_aliases text[])
RETURNS text[] LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    outcomes text[];
    present smallint;
    -- A little less than in_range(): nothing is moved out of it below.
    soon timestamptz := now() + interval '59 minutes';
    halted_host bigint;
    halted_session bigint;
    b unit_batch;
BEGIN
    SELECT f.slot INTO STRICT present FROM fresh_slot f WHERE f.present;

    -- In one order: two collectors that hold the same hosts for a moment wait
    -- instead of deadlocking.
    PERFORM FROM ingest_cursor c WHERE c.host_id = ANY (p_host_ids)
    ORDER BY c.host_id FOR UPDATE;

    -- Where times within the unit grow, batch k of a host comes to lie at
    -- its own time or k microseconds after what was stored before.
    WITH unit AS (
        SELECT u.*, c.n + row_number() OVER w AS n,
            greatest(u.at, c.last_at + row_number() OVER w
                               * interval '1 microsecond') AS at_stored,
            c.session = u.session AND c.boot_id = u.boot_id
                AND u.prev_seq = coalesce(lag(u.seq) OVER w, s.seq)
                AND u.stream = coalesce(lag(u.stream) OVER w, u.stream)
                AND u.first_seq = u.prev_seq + 1 AND u.seq > u.prev_seq
                AND u.at >= '2000-01-01 00:00:00+00' AND u.at <= soon
                AND coalesce(u.at > lag(u.at) OVER w, true)
                AND coalesce(c.last_at <= soon, true)
                AND u.extra = 0 AS fits
        FROM unnest(p_host_ids, p_sessions, p_streams, p_prev_seqs,
                    p_first_seqs, p_seqs, p_ats, p_wall_ats, p_boot_ids,
                    p_missed_ticks, p_tags_kinds, p_counters_kinds,
                    p_extra_of) WITH ORDINALITY
             AS u(host_id, session, stream, prev_seq, first_seq, seq, at,
                  wall_at, boot_id, missed_ticks, tags_kind, counters_kind,
                  extra, i)
        LEFT JOIN ingest_cursor c ON c.host_id = u.host_id
        LEFT JOIN ingest_stream s
            ON s.host_id = u.host_id AND s.stream = u.stream
        WINDOW w AS (PARTITION BY u.host_id ORDER BY u.i)
    ), judged AS MATERIALIZED (
        SELECT u.*, u.i::integer AS nth,
            coalesce(bool_and(coalesce(u.fits, false))
                     OVER (PARTITION BY u.host_id), false) AS usual
        FROM unit u
    ), inserted AS (
        INSERT INTO fresh (host_id, n, at, wall_at, first_seq, seq, boot_id,
            stream, slot, tags_kind, counters_kind, tags, counters)
        SELECT j.host_id, j.n, j.at_stored, j.wall_at, j.first_seq, j.seq,
            j.boot_id, j.stream, present, j.tags_kind, j.counters_kind,
            p_tags[j.nth], p_counters[j.nth]
        FROM judged j WHERE j.usual
    ), hosts AS MATERIALIZED (
        SELECT j.host_id, max(j.n) AS n, max(j.nth) AS nth, max(j.seq) AS seq,
            min(j.at_stored) AS first_at, max(j.at_stored) AS last_at,
            max(j.at_stored) FILTER (WHERE j.tags_kind > 0) AS tags_at,
            max(j.n) FILTER (WHERE j.tags_kind > 0) AS tags_n,
            max(j.n) FILTER (WHERE j.tags_kind = 2) AS tags_keyframe_n,
            max(j.at_stored) FILTER (WHERE j.counters_kind > 0)
                AS counters_at,
            max(j.n) FILTER (WHERE j.counters_kind > 0) AS counters_n,
            max(j.n) FILTER (WHERE j.counters_kind = 2)
                AS counters_keyframe_n,
            sum(j.missed_ticks)::bigint AS missed_ticks
        FROM judged j WHERE j.usual
        GROUP BY j.host_id
    ), cursors AS (
        UPDATE ingest_cursor c SET n = h.n,
            first_at = coalesce(c.first_at, h.first_at), last_at = h.last_at,
            tags_at = coalesce(h.tags_at, c.tags_at),
            tags_n = coalesce(h.tags_n, c.tags_n),
            tags_keyframe_n = coalesce(h.tags_keyframe_n, c.tags_keyframe_n),
            counters_at = coalesce(h.counters_at, c.counters_at),
            counters_n = coalesce(h.counters_n, c.counters_n),
            counters_keyframe_n =
                coalesce(h.counters_keyframe_n, c.counters_keyframe_n),
            out_of_range = false, missed_ticks = c.missed_ticks + h.missed_ticks
        FROM hosts h WHERE c.host_id = h.host_id
    ), streams AS (
        UPDATE ingest_stream s SET seq = h.seq
        FROM hosts h
        WHERE s.host_id = h.host_id AND s.stream = p_streams[h.nth]
    )
    SELECT array_agg(CASE WHEN j.usual THEN 'stored' END ORDER BY j.i)
    INTO outcomes FROM judged j;

    IF array_position(outcomes, NULL) IS NULL THEN
        RETURN outcomes;
    END IF;
    FOR b IN
        SELECT u.i, u.host_id, u.session, u.stream, u.prev_seq, u.first_seq,
            u.seq, u.at, u.wall_at, u.boot_id, u.boot_at, u.missed_ticks,
            u.tags_kind, u.counters_kind, p_tags[u.i::integer],
            p_counters[u.i::integer], p_drivers[u.extra], p_events[u.extra],
            p_sources[u.extra], p_aliases[u.extra]
        FROM unnest(p_host_ids, p_sessions, p_streams, p_prev_seqs,
                    p_first_seqs, p_seqs, p_ats, p_wall_ats, p_boot_ids,
                    p_boot_ats, p_missed_ticks, p_tags_kinds,
                    p_counters_kinds, p_extra_of) WITH ORDINALITY
             AS u(host_id, session, stream, prev_seq, first_seq, seq, at,
                  wall_at, boot_id, boot_at, missed_ticks, tags_kind,
                  counters_kind, extra, i)
        WHERE outcomes[u.i] IS NULL
        ORDER BY u.host_id, u.i
    LOOP
        -- What builds on a batch that cannot be stored cannot either.
        IF b.host_id = halted_host AND b.session = halted_session THEN
            outcomes[b.i] := 'retry';
            CONTINUE;
        END IF;
        outcomes[b.i] := batch_store(b, present);
        IF outcomes[b.i] = 'retry' THEN
            halted_host := b.host_id;
            halted_session := b.session;
        END IF;
    END LOOP;
    RETURN outcomes;
END $$;

-- Which batches of a host are stored: what tests of faults compare with the
-- agent's own record. Those of an emptied slot are not told any more.
CREATE OR REPLACE FUNCTION poolscope_api.stored_batches(p_host_id bigint)
RETURNS TABLE (n bigint, at timestamptz, stream uuid, first_seq bigint,
               seq bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT f.n, f.at, f.stream, f.first_seq, f.seq
    FROM fresh f WHERE f.host_id = p_host_id
    ORDER BY f.n
$$;

DROP FUNCTION poolscope_api.poll(text, jsonb);
CREATE FUNCTION poolscope_api.poll(
    p_collector text, p_metrics jsonb,
    OUT registry_epoch bigint, OUT disabled bigint[],
    OUT settle_span_us bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    INSERT INTO collector_status (collector, at, metrics)
    VALUES (p_collector, clock_timestamp(), p_metrics)
    ON CONFLICT (collector) DO UPDATE
    SET at = excluded.at, metrics = excluded.metrics;
    registry_epoch := poolscope_data.registry_epoch();
    disabled := ARRAY(SELECT host_id FROM host
                      WHERE disabled_at IS NOT NULL ORDER BY host_id);
    settle_span_us :=
        extract(epoch FROM setting_interval('settle_span')) * 1000000;
END $$;

GRANT EXECUTE ON FUNCTION poolscope_api.poll(text, jsonb),
    poolscope_api.unit_store(bigint[], bigint[], uuid[], bigint[], bigint[],
        bigint[], timestamptz[], timestamptz[], uuid[], timestamptz[],
        bigint[], smallint[], smallint[], bytea[], bytea[], integer[], text[],
        text[], text[], text[])
    TO poolscope_writer;
