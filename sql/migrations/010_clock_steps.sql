-- A collector's clock that was ahead for a while and is right again: what was
-- stored meanwhile lies in the future. Samples of a host strictly increase in
-- time, but nobody waits until that future has come: the next sample is stored
-- at its own time, behind the others in order of n, and an event says so.

-- An hour is more than clocks differ that anybody cares for. What lies beyond
-- it counts when its time has come: an hour of the future must not be taken
-- for the oldest that is not summed up yet.
CREATE OR REPLACE FUNCTION poolscope_data.in_range(p_at timestamptz)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_at >= '2000-01-01 00:00:00+00' AND p_at <= now() + '1 hour'
$$;

-- As before, but for that.
CREATE OR REPLACE FUNCTION poolscope_api.batch_store(
    p_host_id bigint, p_session bigint, p_stream uuid, p_prev_seq bigint,
    p_first_seq bigint, p_seq bigint, p_at timestamptz,
    p_wall_at timestamptz, p_boot_id uuid, p_boot_at timestamptz,
    p_missed_ticks bigint, p_tags_kind smallint,
    p_tag_ids integer[], p_allocs bigint[], p_frees bigint[],
    p_outstanding bigint[], p_bytes bigint[], p_tags_gone integer[],
    p_counters_kind smallint, p_counter_ids integer[],
    p_counter_values double precision[], p_counters_gone integer[],
    p_drivers jsonb, p_events jsonb, p_sources jsonb, p_aliases jsonb)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c ingest_cursor;
    at_stored timestamptz := p_at;
    possible boolean := in_range(p_at);
    outcome text;
BEGIN
    SELECT * INTO c FROM ingest_cursor WHERE host_id = p_host_id FOR UPDATE;
    IF NOT FOUND OR c.session <> p_session THEN
        RETURN 'superseded';
    END IF;
    outcome := stream_advance(p_host_id, p_stream, p_prev_seq, p_seq);
    IF outcome <> 'stored' THEN
        RETURN outcome;
    END IF;

    IF c.boot_id IS DISTINCT FROM p_boot_id THEN
        PERFORM boot_note(c, p_boot_id, p_boot_at);
    END IF;
    c.n := c.n + 1;
    c.boot_id := p_boot_id;
    c.missed_ticks := c.missed_ticks + p_missed_ticks;
    IF p_first_seq > p_prev_seq + 1 THEN
        PERFORM own_event(p_host_id, c.n, 'batches_lost',
            (p_first_seq - p_prev_seq - 1) || ' samples never came',
            jsonb_build_object('stream', p_stream, 'from_seq',
                p_prev_seq + 1, 'to_seq', p_first_seq - 1));
    END IF;
    IF possible THEN
        IF NOT in_range(c.last_at) AND p_at <= c.last_at THEN
            PERFORM own_event(p_host_id, c.n, 'clock_stepped_back',
                'samples were stored with times that were still to come, up '
                'to ' || c.last_at,
                jsonb_build_object('at', p_at, 'last_at', c.last_at));
            c.last_at := NULL;
        END IF;
        at_stored := greatest(p_at, c.last_at + interval '1 microsecond');
        c.first_at := coalesce(c.first_at, at_stored);
        c.last_at := at_stored;
    ELSIF NOT c.out_of_range THEN
        PERFORM own_event(p_host_id, c.n, 'time_out_of_range',
            'samples carry an impossible time: ' || p_at,
            jsonb_build_object('at', p_at, 'wall_at', p_wall_at));
    END IF;
    c.out_of_range := NOT possible;

    IF p_tags_kind > 0 THEN
        INSERT INTO snapshot VALUES (p_host_id, c.n, at_stored, p_wall_at,
            p_stream, p_first_seq, p_seq, p_boot_id, p_tags_kind = 2,
            p_tag_ids, p_allocs, p_frees, p_outstanding, p_bytes,
            coalesce(p_tags_gone, '{}'));
        c.tags_n := c.n;
        c.tags_at := at_stored;
        IF p_tags_kind = 2 THEN
            c.tags_keyframe_n := c.n;
        END IF;
    END IF;
    IF p_counters_kind > 0 THEN
        INSERT INTO counter_sample VALUES (p_host_id, c.n, at_stored,
            p_wall_at, p_stream, p_first_seq, p_seq, p_boot_id,
            p_counters_kind = 2, p_counter_ids, p_counter_values,
            coalesce(p_counters_gone, '{}'));
        c.counters_n := c.n;
        c.counters_at := at_stored;
        IF p_counters_kind = 2 THEN
            c.counters_keyframe_n := c.n;
        END IF;
    END IF;
    IF p_tags_kind = 0 AND p_counters_kind = 0 THEN
        INSERT INTO other_batch VALUES (p_host_id, c.n, at_stored, p_wall_at,
            p_stream, p_first_seq, p_seq, p_boot_id);
    END IF;
    PERFORM drivers_replace(p_host_id, at_stored, p_drivers)
    WHERE p_drivers IS NOT NULL;
    PERFORM event_store(p_host_id, c.n, at_stored, p_boot_id, p_events)
    WHERE p_events IS NOT NULL;
    UPDATE host_state SET sources = coalesce(p_sources, sources),
        aliases = coalesce(p_aliases, aliases)
    WHERE host_id = p_host_id
      AND (p_sources IS NOT NULL OR p_aliases IS NOT NULL);

    UPDATE ingest_cursor SET n = c.n,
        first_at = c.first_at, last_at = c.last_at, tags_at = c.tags_at,
        tags_n = c.tags_n, tags_keyframe_n = c.tags_keyframe_n,
        counters_at = c.counters_at, counters_n = c.counters_n,
        counters_keyframe_n = c.counters_keyframe_n, boot_id = c.boot_id,
        out_of_range = c.out_of_range, missed_ticks = c.missed_ticks
    WHERE host_id = p_host_id;
    RETURN 'stored';
END $$;

-- A host that was seen in the future is not seen for ever.
CREATE OR REPLACE FUNCTION poolscope_api.host_heartbeat(
    p_host_ids bigint[], p_sessions bigint[], p_seen_at timestamptz[],
    p_clock_offsets_us bigint[], p_spool_bytes bigint[],
    p_dropped_batches bigint[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    -- In the order in which units come by: they wait instead of deadlocking.
    PERFORM FROM host_state s WHERE s.host_id = ANY (p_host_ids)
    ORDER BY s.host_id FOR UPDATE;
    UPDATE host_state s
    SET seen_at = CASE WHEN NOT in_range(s.seen_at) THEN b.seen_at
                       ELSE greatest(s.seen_at, b.seen_at) END,
        clock_offset_us = b.clock_offset_us,
        spool_bytes = b.spool_bytes,
        agent_dropped_batches = b.dropped_batches
    FROM unnest(p_host_ids, p_sessions, p_seen_at, p_clock_offsets_us,
                p_spool_bytes, p_dropped_batches)
         AS b(host_id, session, seen_at, clock_offset_us, spool_bytes,
              dropped_batches)
    JOIN ingest_cursor c ON c.host_id = b.host_id AND c.session = b.session
    WHERE s.host_id = b.host_id;
END $$;
