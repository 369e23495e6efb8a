-- What the collector calls while agents talk to it. sql/README.md documents
-- each function; here stands why.

-- Microseconds since 1970 as a time; what is no time at all becomes the
-- nearest one that PostgreSQL can show.
CREATE FUNCTION poolscope_data.from_us(p_us bigint) RETURNS timestamptz
LANGUAGE sql STABLE STRICT AS $$
    SELECT '1970-01-01 00:00:00+00'::timestamptz
        + make_interval(secs => v / 1000000)
        + (v % 1000000) * interval '1 microsecond'
    FROM (SELECT greatest(-60000000000000000,
                          least(p_us, 250000000000000000)) AS v) AS clamped
$$;

-- JSON if it is some, else an object that keeps the text.
CREATE FUNCTION poolscope_data.to_details(p_text text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN nullif(p_text, '')::jsonb;
EXCEPTION WHEN data_exception THEN
    RETURN jsonb_build_object('text', p_text);
END $$;

CREATE FUNCTION poolscope_data.registry_epoch() RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT value::bigint FROM poolscope_data.setting
    WHERE name = 'registry_epoch'
$$;

-- ------------------------------------------------------------- sessions

CREATE FUNCTION poolscope_api.session_claim(
    p_host_id bigint, p_collector text, p_not_before timestamptz,
    p_facts jsonb,
    OUT result text, OUT host text, OUT session bigint, OUT n bigint,
    OUT last_at timestamptz, OUT clock_offset_us bigint,
    OUT registry_epoch bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    cur poolscope_data.ingest_cursor;
BEGIN
    result := poolscope_data.host_admit(p_host_id, p_not_before);
    IF result <> 'ok' THEN
        RETURN;
    END IF;
    INSERT INTO ingest_cursor AS c (host_id, session, collector)
    VALUES (p_host_id, 1, p_collector)
    ON CONFLICT (host_id) DO UPDATE
    SET session = c.session + 1, collector = p_collector
    RETURNING * INTO cur;

    host := (SELECT h.host FROM host h WHERE h.host_id = p_host_id);
    session := cur.session;
    n := cur.n;
    last_at := cur.last_at;
    -- As it was before this hello: what earlier boots' clocks are judged by.
    clock_offset_us := (SELECT s.clock_offset_us FROM host_state s
                        WHERE s.host_id = p_host_id);
    registry_epoch := poolscope_data.registry_epoch();
    PERFORM poolscope_data.facts_note(p_host_id, p_collector, p_facts);
END $$;

-- May a peer whose certificate is valid from then on act as this host?
CREATE FUNCTION poolscope_data.host_admit(p_host_id bigint,
                                          p_not_before timestamptz)
RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    known poolscope_data.host;
BEGIN
    SELECT * INTO known FROM poolscope_data.host WHERE host_id = p_host_id;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF known.disabled_at IS NOT NULL THEN
        RETURN 'disabled';
    ELSIF p_not_before < known.valid_from THEN
        RETURN 'old_certificate';
    END IF;
    RETURN 'ok';
END $$;

-- The agent turns to a stream: where does it stand? The newest 16 of a host
-- are kept.
CREATE FUNCTION poolscope_api.stream_open(
    p_host_id bigint, p_session bigint, p_stream uuid,
    p_dropped_batches bigint, OUT result text, OUT seq bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c ingest_cursor;
BEGIN
    SELECT * INTO c FROM ingest_cursor WHERE host_id = p_host_id FOR UPDATE;
    IF NOT FOUND OR c.session <> p_session THEN
        result := 'superseded';
        RETURN;
    END IF;
    INSERT INTO ingest_stream AS s (host_id, stream, seq, opened)
    VALUES (p_host_id, p_stream, 0, c.n)
    ON CONFLICT (host_id, stream) DO UPDATE SET opened = c.n
    RETURNING s.seq INTO seq;
    DELETE FROM ingest_stream s
    WHERE s.host_id = p_host_id AND s.stream <> p_stream
      AND s.stream NOT IN (SELECT x.stream FROM ingest_stream x
                           WHERE x.host_id = p_host_id
                           ORDER BY x.opened DESC LIMIT 16);
    UPDATE host_state SET agent_dropped_batches = p_dropped_batches
    WHERE host_id = p_host_id;
    result := 'ok';
END $$;

-- What a hello said.
CREATE FUNCTION poolscope_data.facts_note(p_host_id bigint, p_collector text,
                                          p_facts jsonb)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    facts record;
BEGIN
    SELECT * INTO facts FROM jsonb_to_record(p_facts) AS f(
        os text, os_version text, os_build text, agent_version text,
        role text, region text, labels jsonb, ram_bytes bigint, boot_id uuid,
        boot_at_us bigint, interval_us bigint, clock_offset_us bigint,
        peer text);
    INSERT INTO poolscope_data.host_state AS s
        (host_id, os, os_version, os_build, agent_version, role, region,
         labels, ram_bytes, interval_us, clock_offset_us, collector, peer,
         seen_at)
    VALUES (p_host_id, coalesce(facts.os, ''), coalesce(facts.os_version, ''),
            coalesce(facts.os_build, ''), coalesce(facts.agent_version, ''),
            coalesce(facts.role, ''), coalesce(facts.region, ''),
            coalesce(facts.labels, '{}'), facts.ram_bytes, facts.interval_us,
            facts.clock_offset_us, p_collector, coalesce(facts.peer, ''),
            clock_timestamp())
    ON CONFLICT (host_id) DO UPDATE SET
        os = excluded.os, os_version = excluded.os_version,
        os_build = excluded.os_build,
        agent_version = excluded.agent_version, role = excluded.role,
        region = excluded.region, labels = excluded.labels,
        ram_bytes = coalesce(excluded.ram_bytes, s.ram_bytes),
        interval_us = coalesce(excluded.interval_us, s.interval_us),
        clock_offset_us = coalesce(excluded.clock_offset_us,
                                   s.clock_offset_us),
        collector = excluded.collector, peer = excluded.peer,
        seen_at = excluded.seen_at;
    IF facts.boot_id IS NOT NULL THEN
        INSERT INTO poolscope_data.boot (host_id, boot_id, boot_at, last_seen)
        VALUES (p_host_id, facts.boot_id,
                poolscope_data.from_us(facts.boot_at_us), NULL)
        ON CONFLICT (host_id, boot_id) DO NOTHING;
    END IF;
END $$;

CREATE FUNCTION poolscope_api.host_heartbeat(
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
    SET seen_at = greatest(s.seen_at, b.seen_at),
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

CREATE FUNCTION poolscope_api.poll(
    p_collector text, p_metrics jsonb,
    OUT registry_epoch bigint, OUT disabled bigint[])
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
END $$;

-- ------------------------------------------------------------- registry

-- What is missing is inserted in the order of its keys, so that two
-- collectors that learn the same tags at once wait instead of deadlocking.
-- What is asked for is in use: registry_forget() must leave it alone.
CREATE FUNCTION poolscope_api.intern_tags(p_pools text[], p_tags text[],
                                          p_flags integer[])
RETURNS integer[] LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    room bigint;
BEGIN
    SELECT s.value::bigint - (SELECT count(*) FROM tag) INTO room
    FROM setting s WHERE s.name = 'max_tags';
    INSERT INTO tag (pool, tag, flags)
    SELECT w.pool, w.tag, bit_or(w.flags)
    FROM unnest(p_pools, p_tags, p_flags) AS w(pool, tag, flags)
    WHERE NOT EXISTS (SELECT FROM tag t
                      WHERE t.pool = w.pool AND t.tag = w.tag)
    GROUP BY w.pool, w.tag
    ORDER BY w.pool, w.tag
    LIMIT greatest(room, 0)
    ON CONFLICT (pool, tag) DO NOTHING;

    WITH due AS MATERIALIZED (
        SELECT t.tag_id, w.flags
        FROM unnest(p_pools, p_tags, p_flags) AS w(pool, tag, flags)
        JOIN tag t ON t.pool = w.pool AND t.tag = w.tag
        WHERE t.flags | w.flags <> t.flags
           OR t.last_seen < now() - interval '7 days'
        ORDER BY t.tag_id FOR UPDATE OF t
    )
    UPDATE tag t SET flags = t.flags | due.flags, last_seen = now()
    FROM due WHERE t.tag_id = due.tag_id;

    RETURN ARRAY(
        SELECT t.tag_id
        FROM unnest(p_pools, p_tags) WITH ORDINALITY AS w(pool, tag, i)
        LEFT JOIN tag t ON t.pool = w.pool AND t.tag = w.tag
        ORDER BY w.i);
END $$;

CREATE FUNCTION poolscope_api.intern_counters(p_counters text[],
                                              p_instances text[])
RETURNS integer[] LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    room bigint;
BEGIN
    SELECT s.value::bigint - (SELECT count(*) FROM counter_name) INTO room
    FROM setting s WHERE s.name = 'max_counters';
    INSERT INTO counter_name (counter, instance)
    SELECT DISTINCT w.counter, w.instance
    FROM unnest(p_counters, p_instances) AS w(counter, instance)
    WHERE NOT EXISTS (SELECT FROM counter_name t WHERE t.counter = w.counter
                      AND t.instance = w.instance)
    ORDER BY w.counter, w.instance
    LIMIT greatest(room, 0)
    ON CONFLICT (counter, instance) DO NOTHING;

    WITH due AS MATERIALIZED (
        SELECT t.counter_id
        FROM unnest(p_counters, p_instances) AS w(counter, instance)
        JOIN counter_name t
             ON t.counter = w.counter AND t.instance = w.instance
        WHERE t.last_seen < now() - interval '7 days'
        ORDER BY t.counter_id FOR UPDATE OF t
    )
    UPDATE counter_name t SET last_seen = now()
    FROM due WHERE t.counter_id = due.counter_id;

    RETURN ARRAY(
        SELECT t.counter_id
        FROM unnest(p_counters, p_instances) WITH ORDINALITY
             AS w(counter, instance, i)
        LEFT JOIN counter_name t
             ON t.counter = w.counter AND t.instance = w.instance
        ORDER BY w.i);
END $$;

-- What may soon be forgotten is left out: it is interned when it comes back.
CREATE FUNCTION poolscope_api.tags()
RETURNS TABLE (tag_id integer, pool text, tag text, flags integer)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT t.tag_id, t.pool, t.tag, t.flags FROM tag t
    WHERE t.last_seen > now() - interval '90 days' ORDER BY t.tag_id
$$;

CREATE FUNCTION poolscope_api.counters()
RETURNS TABLE (counter_id integer, counter text, instance text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT c.counter_id, c.counter, c.instance
    FROM counter_name c
    WHERE c.last_seen > now() - interval '90 days' ORDER BY c.counter_id
$$;

-- -------------------------------------------------------------- batches

-- The whole inventory of a host: what is as it was stays one row, what
-- differs or was loaded anew begins one, what is missing ends.
CREATE FUNCTION poolscope_data.drivers_replace(
    p_host_id bigint, p_at timestamptz, p_drivers jsonb)
RETURNS void LANGUAGE sql
SET search_path = poolscope_data, pg_temp AS $$
    WITH inventory AS MATERIALIZED (
        SELECT DISTINCT ON (d.driver, coalesce(d.path, ''))
            d.driver, coalesce(d.version, '') AS version,
            coalesce(d.company, '') AS company,
            coalesce(d.product, '') AS product,
            coalesce(d.path, '') AS path,
            coalesce(d.srcversion, '') AS srcversion,
            coalesce(d.sha256, '') AS sha256, coalesce(d.tags, '') AS tags,
            from_us(nullif(d.link_time_us, 0)) AS link_time,
            from_us(nullif(d.loaded_at_us, 0)) AS loaded_at,
            nullif(d.size_bytes, 0) AS size_bytes, d.loaded_matches_file
        FROM jsonb_to_recordset(p_drivers) AS d(
            driver text, version text, company text, product text, path text,
            srcversion text, sha256 text, tags text, link_time_us bigint,
            loaded_at_us bigint, size_bytes bigint,
            loaded_matches_file boolean)
        WHERE d.driver <> ''
    ), kept AS MATERIALIZED (
        SELECT s.driver_seen_id, d.driver, d.path, d.tags,
            d.loaded_matches_file
        FROM driver_seen s
        JOIN inventory d ON d.driver = s.driver AND d.path = s.path
        WHERE s.host_id = p_host_id AND s.seen_to IS NULL
          AND s.version = d.version AND s.srcversion = d.srcversion
          AND s.sha256 = d.sha256
          AND s.link_time IS NOT DISTINCT FROM d.link_time
          AND (s.loaded_at IS NOT DISTINCT FROM d.loaded_at
               OR s.loaded_at BETWEEN d.loaded_at - interval '2 seconds'
                                  AND d.loaded_at + interval '2 seconds')
    ), renewed AS (
        UPDATE driver_seen s
        SET tags = k.tags, loaded_matches_file = k.loaded_matches_file
        FROM kept k
        WHERE s.host_id = p_host_id AND s.driver_seen_id = k.driver_seen_id
          AND (s.tags <> k.tags OR s.loaded_matches_file
               IS DISTINCT FROM k.loaded_matches_file)
    ), ended AS (
        UPDATE driver_seen s SET seen_to = p_at
        WHERE s.host_id = p_host_id AND s.seen_to IS NULL
          AND NOT EXISTS (SELECT FROM kept k
                          WHERE k.driver_seen_id = s.driver_seen_id)
    )
    INSERT INTO driver_seen (host_id, driver, version, company, product, path,
        srcversion, sha256, tags, link_time, loaded_at, size_bytes,
        loaded_matches_file, seen_from)
    SELECT p_host_id, d.driver, d.version, d.company, d.product, d.path,
        d.srcversion, d.sha256, d.tags, d.link_time, d.loaded_at,
        d.size_bytes, d.loaded_matches_file, p_at
    FROM inventory d
    WHERE NOT EXISTS (SELECT FROM kept k
                      WHERE k.driver = d.driver AND k.path = d.path)
$$;

-- A batch brings word of another boot than the one before.
CREATE FUNCTION poolscope_data.boot_note(
    p_cursor poolscope_data.ingest_cursor, p_boot_id uuid,
    p_boot_at timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE poolscope_data.boot SET last_seen = p_cursor.last_at
    WHERE host_id = p_cursor.host_id AND boot_id = p_cursor.boot_id;
    INSERT INTO poolscope_data.boot AS b (host_id, boot_id, boot_at)
    VALUES (p_cursor.host_id, p_boot_id, p_boot_at)
    ON CONFLICT (host_id, boot_id) DO UPDATE
    SET boot_at = coalesce(b.boot_at, excluded.boot_at);
END $$;

-- Each event is stored once: a source counts its events within a boot, and an
-- agent that starts anew may tell some again. Without a position an event
-- stands for itself. Sources are a handful; of a host that invents ever more
-- of them only the newest are remembered.
CREATE FUNCTION poolscope_data.event_store(
    p_host_id bigint, p_n bigint, p_at timestamptz, p_boot_id uuid,
    p_events jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    positions jsonb;
BEGIN
    SELECT CASE WHEN s.event_boot_id = p_boot_id
                 AND (SELECT count(*)
                      FROM jsonb_object_keys(s.event_positions)) <= 64
                THEN s.event_positions ELSE '{}' END INTO positions
    FROM host_state s WHERE s.host_id = p_host_id;
    INSERT INTO event (host_id, n, at, source, event_id, message, details)
    SELECT p_host_id, p_n, coalesce(from_us(e.at_us), p_at),
        coalesce(e.source, ''), coalesce(e.event_id, ''),
        coalesce(e.message, ''), to_details(e.details)
    FROM jsonb_to_recordset(p_events) AS e(
        position bigint, at_us bigint, source text, event_id text,
        message text, details text)
    WHERE coalesce(e.position, 0) = 0
       OR e.position > coalesce(
              (positions ->> coalesce(e.source, ''))::bigint, 0);
    UPDATE host_state s
    SET event_boot_id = p_boot_id,
        event_positions = positions || coalesce(
            (SELECT jsonb_object_agg(x.source, x.newest)
             FROM (SELECT coalesce(e.source, '') AS source,
                       greatest(max(e.position),
                           (positions ->> coalesce(e.source, ''))::bigint)
                       AS newest
                   FROM jsonb_to_recordset(p_events)
                        AS e(position bigint, source text)
                   WHERE e.position > 0
                   GROUP BY coalesce(e.source, '')) AS x), '{}')
    WHERE s.host_id = p_host_id;
END $$;

-- The cursors of all hosts of a unit, locked in one order: two collectors
-- that hold the same hosts for a moment wait instead of deadlocking.
CREATE FUNCTION poolscope_api.unit_lock(p_host_ids bigint[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    PERFORM 1 FROM ingest_cursor c WHERE c.host_id = ANY (p_host_ids)
    ORDER BY c.host_id FOR UPDATE;
END $$;

-- May this batch be stored? Advances the stream if so. p_prev_seq is where
-- the caller thinks the stream stands.
CREATE FUNCTION poolscope_data.stream_advance(
    p_host_id bigint, p_stream uuid, p_prev_seq bigint, p_seq bigint)
RETURNS text LANGUAGE plpgsql
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    stands_at bigint;
BEGIN
    SELECT seq INTO stands_at FROM ingest_stream
    WHERE host_id = p_host_id AND stream = p_stream;
    IF p_seq <= stands_at THEN
        RETURN 'duplicate';
    ELSIF stands_at IS DISTINCT FROM p_prev_seq THEN
        RETURN 'retry';
    END IF;
    UPDATE ingest_stream SET seq = p_seq
    WHERE host_id = p_host_id AND stream = p_stream;
    RETURN 'stored';
END $$;

-- What poolscope itself has to say about a host's data.
CREATE FUNCTION poolscope_data.own_event(
    p_host_id bigint, p_n bigint, p_event_id text, p_message text,
    p_details jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO poolscope_data.event
        (host_id, n, at, source, event_id, message, details)
    VALUES (p_host_id, p_n, clock_timestamp(), 'poolscope', p_event_id,
            p_message, p_details)
$$;

-- A batch that the database refuses: its seq is past, and an event says so.
CREATE FUNCTION poolscope_api.batch_reject(
    p_host_id bigint, p_session bigint, p_stream uuid, p_prev_seq bigint,
    p_seq bigint, p_reason text)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c ingest_cursor;
    outcome text;
BEGIN
    SELECT * INTO c FROM ingest_cursor WHERE host_id = p_host_id FOR UPDATE;
    IF NOT FOUND OR c.session <> p_session THEN
        RETURN 'superseded';
    END IF;
    outcome := stream_advance(p_host_id, p_stream, p_prev_seq, p_seq);
    IF outcome = 'stored' THEN
        PERFORM own_event(p_host_id, c.n, 'batch_rejected',
            'the database refused a sample: ' || p_reason,
            jsonb_build_object('stream', p_stream, 'seq', p_seq));
    END IF;
    RETURN outcome;
END $$;

CREATE FUNCTION poolscope_api.batch_store(
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

-- Which batches of a host are stored: what tests of faults compare with the
-- agent's own record.
CREATE FUNCTION poolscope_api.stored_batches(p_host_id bigint)
RETURNS TABLE (n bigint, at timestamptz, stream uuid, first_seq bigint,
               seq bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT s.n, s.at, s.stream, s.first_seq, s.seq
    FROM snapshot s WHERE s.host_id = p_host_id
    UNION
    SELECT s.n, s.at, s.stream, s.first_seq, s.seq
    FROM counter_sample s WHERE s.host_id = p_host_id
    UNION
    SELECT s.n, s.at, s.stream, s.first_seq, s.seq
    FROM other_batch s WHERE s.host_id = p_host_id
    ORDER BY n
$$;
