-- From the first version to the second: heartbeats in narrow rows, detection that
-- remembers how far it told, housekeeping that says what failed.

-- What heartbeats say, in narrow rows: each is written up to once a minute, in
-- place, as nothing that changes is in an index.
CREATE TABLE poolscope_data.host_seen (
    host_id bigint PRIMARY KEY,
    seen_at timestamptz,            -- hello or heartbeat
    clock_offset_us bigint,         -- collector's clock less the host's
    spool_bytes bigint,
    agent_dropped_batches bigint    -- as the agent counts
) WITH (fillfactor = 50);
INSERT INTO poolscope_data.host_seen
SELECT host_id, seen_at, clock_offset_us, spool_bytes, agent_dropped_batches
FROM poolscope_data.host_state;

-- How far detection has come with a host: what it saw up to batch n is told.
CREATE TABLE poolscope_data.detect_position (
    host_id bigint PRIMARY KEY,
    n bigint NOT NULL
) WITH (fillfactor = 50);

ALTER TABLE poolscope_data.leak_host
    ADD group_bytes_per_day bigint; -- of all its tags together

-- Times that count as possible; others go to the default partition. An hour is
-- more than clocks differ that anybody cares for. What lies beyond it counts
-- when its time has come: an hour of the future must not be taken for the
-- oldest that is not summed up yet.
CREATE OR REPLACE FUNCTION poolscope_data.in_range(p_at timestamptz)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_at >= '2000-01-01 00:00:00+00' AND p_at <= now() + '1 hour'
$$;

DROP FUNCTION poolscope_data.partitions_ahead();
-- Make what the next days need (a week, should housekeeping fail), and what
-- late rows in the default partition need. Says how many were made; gives up
-- quietly where a lock is not to be had, the next call tries again. Any other
-- failure is told, and keeps no other partition from being made. Tables that a
-- later migration has put aside (_v1) get no new ones.
CREATE FUNCTION poolscope_data.partitions_ahead(OUT made integer,
                                                OUT failed text)
LANGUAGE plpgsql AS $$
DECLARE
    kind poolscope_data.partitioned;
    wanted timestamptz;
BEGIN
    made := 0;
    FOR kind IN SELECT * FROM poolscope_data.partitioned
                WHERE parent NOT LIKE '%\_v1' ORDER BY parent
    LOOP
        FOR wanted IN EXECUTE format(
            'SELECT * FROM generate_series(now() - interval ''1 day'', '
            'now() + interval ''8 days'', ''1 day'') '
            'UNION (SELECT DISTINCT date_trunc(''day'', %1$I, ''UTC'') '
            'FROM poolscope_data.%2$I '
            'WHERE %1$I >= now() - $1 AND %1$I <= now() + interval ''1 day'') '
            'ORDER BY 1', kind.at_column, kind.parent || '_default')
        USING poolscope_data.setting_interval(kind.retention)
        LOOP
            BEGIN
                IF poolscope_data.partition_make(kind.parent, wanted) THEN
                    made := made + 1;
                END IF;
            EXCEPTION
            WHEN lock_not_available THEN
                CONTINUE;
            WHEN others THEN
                failed := coalesce(failed, format('a partition of %s for %s: '
                                   '%s', kind.parent, wanted, SQLERRM));
            END;
        END LOOP;
    END LOOP;
END $$;

-- What the default partition of a table holds; of that, what housekeeping has
-- yet to move into a partition. The rest has impossible times.
CREATE FUNCTION poolscope_data.default_rows(p_parent text,
    OUT default_rows bigint, OUT waiting_rows bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    kind partitioned;
BEGIN
    SELECT * INTO STRICT kind FROM partitioned WHERE parent = p_parent;
    EXECUTE format('SELECT count(*), count(*) FILTER (WHERE %1$I >= now() - $1 '
                   'AND %1$I <= now() + interval ''1 day'') FROM %2$I',
                   kind.at_column, p_parent || '_default')
    USING setting_interval(kind.retention)
    INTO default_rows, waiting_rows;
END $$;

CREATE OR REPLACE FUNCTION poolscope_api.session_claim(
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
    -- Whoever holds a claim that a crash, or a restored dump, has lost must not
    -- pass for who claims next: numbers grow by steps that do not come twice.
    step bigint := 1 + floor(random() * 4294967296)::bigint;
BEGIN
    -- Without waiting for the disk: thousands come at once after a restart. A
    -- crash that loses this loses all that came after it, too, and whatever is
    -- acknowledged is on disk with all before it.
    PERFORM set_config('synchronous_commit', 'off', true);
    result := poolscope_data.host_admit(p_host_id, p_not_before);
    IF result <> 'ok' THEN
        RETURN;
    END IF;
    INSERT INTO ingest_cursor AS c (host_id, session, collector)
    VALUES (p_host_id, step, p_collector)
    ON CONFLICT (host_id) DO UPDATE
    SET session = c.session + step, collector = p_collector
    RETURNING * INTO cur;

    host := (SELECT h.host FROM host h WHERE h.host_id = p_host_id);
    session := cur.session;
    n := cur.n;
    last_at := cur.last_at;
    -- As it was before this hello: what earlier boots' clocks are judged by.
    clock_offset_us := (SELECT s.clock_offset_us FROM host_seen s
                        WHERE s.host_id = p_host_id);
    registry_epoch := poolscope_data.registry_epoch();
    PERFORM poolscope_data.facts_note(p_host_id, p_collector, p_facts);
END $$;

-- The agent turns to a stream: where does it stand? The newest 16 of a host
-- are kept.
CREATE OR REPLACE FUNCTION poolscope_api.stream_open(
    p_host_id bigint, p_session bigint, p_stream uuid,
    p_dropped_batches bigint, OUT result text, OUT seq bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c ingest_cursor;
BEGIN
    -- As session_claim() does.
    PERFORM set_config('synchronous_commit', 'off', true);
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
    UPDATE host_seen SET agent_dropped_batches = p_dropped_batches
    WHERE host_id = p_host_id;
    result := 'ok';
END $$;

-- What a hello said.
CREATE OR REPLACE FUNCTION poolscope_data.facts_note(p_host_id bigint, p_collector text,
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
         labels, ram_bytes, interval_us, collector, peer)
    VALUES (p_host_id, coalesce(facts.os, ''), coalesce(facts.os_version, ''),
            coalesce(facts.os_build, ''), coalesce(facts.agent_version, ''),
            coalesce(facts.role, ''), coalesce(facts.region, ''),
            coalesce(facts.labels, '{}'), facts.ram_bytes, facts.interval_us,
            p_collector, coalesce(facts.peer, ''))
    ON CONFLICT (host_id) DO UPDATE SET
        os = excluded.os, os_version = excluded.os_version,
        os_build = excluded.os_build,
        agent_version = excluded.agent_version, role = excluded.role,
        region = excluded.region, labels = excluded.labels,
        ram_bytes = coalesce(excluded.ram_bytes, s.ram_bytes),
        interval_us = coalesce(excluded.interval_us, s.interval_us),
        collector = excluded.collector, peer = excluded.peer;
    INSERT INTO poolscope_data.host_seen AS s
        (host_id, seen_at, clock_offset_us)
    VALUES (p_host_id, clock_timestamp(), facts.clock_offset_us)
    ON CONFLICT (host_id) DO UPDATE SET
        seen_at = excluded.seen_at,
        clock_offset_us = coalesce(excluded.clock_offset_us,
                                   s.clock_offset_us);
    IF facts.boot_id IS NOT NULL THEN
        INSERT INTO poolscope_data.boot (host_id, boot_id, boot_at, last_seen)
        VALUES (p_host_id, facts.boot_id,
                poolscope_data.from_us(facts.boot_at_us), NULL)
        ON CONFLICT (host_id, boot_id) DO NOTHING;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION poolscope_api.host_heartbeat(
    p_host_ids bigint[], p_sessions bigint[], p_seen_at timestamptz[],
    p_clock_offsets_us bigint[], p_spool_bytes bigint[],
    p_dropped_batches bigint[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    -- In one order: two collectors wait instead of deadlocking.
    PERFORM FROM host_seen s WHERE s.host_id = ANY (p_host_ids)
    ORDER BY s.host_id FOR UPDATE;
    -- A host that was seen in the future is not seen for ever.
    UPDATE host_seen s
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

CREATE OR REPLACE VIEW poolscope.host AS
SELECT h.host_id, h.host,
    coalesce(nullif(s.os, ''), h.os) AS os,
    s.os_version, s.os_build,
    coalesce(h.admin_labels ->> 'role', s.role, '') AS role,
    coalesce(h.admin_labels ->> 'region', s.region, '') AS region,
    coalesce(s.labels, '{}') || h.admin_labels AS labels,
    s.agent_version, c.boot_id, b.boot_at,
    coalesce(c.first_at, h.enrolled_at) AS first_seen,
    greatest(c.last_at, e.seen_at) AS last_seen,
    CASE WHEN h.disabled_at IS NOT NULL THEN 'disabled'
         WHEN greatest(c.last_at, e.seen_at) >= now() - greatest(
                  interval '5 minutes',
                  3 * s.interval_us * interval '1 microsecond')
         THEN 'reporting'
         ELSE 'silent' END AS status,
    s.ram_bytes,
    e.clock_offset_us * interval '1 microsecond' AS clock_offset,
    e.spool_bytes,
    coalesce(e.agent_dropped_batches, 0) AS dropped_batches,
    coalesce((SELECT jsonb_object_agg(x ->> 'name', x - 'name')
              FROM jsonb_array_elements(s.sources) x
              WHERE x ->> 'state' <> 'ok'), '{}') AS source_errors,
    s.interval_us * interval '1 microsecond' AS sample_interval,
    c.missed_ticks, s.collector, h.not_after AS certificate_expires
FROM poolscope_data.host h
LEFT JOIN poolscope_data.host_state s USING (host_id)
LEFT JOIN poolscope_data.host_seen e USING (host_id)
LEFT JOIN poolscope_data.ingest_cursor c USING (host_id)
LEFT JOIN poolscope_data.boot b
    ON b.host_id = h.host_id AND b.boot_id = c.boot_id;

ALTER TABLE poolscope_data.host_state
    DROP seen_at, DROP clock_offset_us, DROP spool_bytes,
    DROP agent_dropped_batches;

-- What else is accounted under a tag: the kernel merges slab caches, and the
-- tag has the name of the first.
CREATE VIEW poolscope.tag_alias AS
SELECT h.host_id, h.host, a ->> 'pool' AS pool, a ->> 'tag' AS tag, n.alias
FROM poolscope_data.host h
JOIN poolscope_data.host_state s USING (host_id)
CROSS JOIN LATERAL jsonb_array_elements(s.aliases) a
CROSS JOIN LATERAL regexp_split_to_table(a ->> 'names', ' ') n(alias)
WHERE n.alias <> '';

CREATE OR REPLACE VIEW poolscope.leak_host AS
SELECT l.leak_id, l.host_id, h.host, l.state, l.onset_at, l.detected_at,
    l.bytes, l.bytes_per_day, l.uptime, l.driver_version, l.room_bytes,
    l.exhaustion_at, l.exhaustion_earliest, l.exhaustion_latest,
    l.group_bytes_per_day
FROM poolscope_data.leak_host l
JOIN poolscope_data.host h USING (host_id);

-- What housekeeping keeps, and whether it gets on.
CREATE VIEW poolscope.storage AS
SELECT k.parent AS data, count(p.child) AS partitions,
    min(p.from_at) AS kept_from, max(p.to_at) AS made_until,
    d.default_rows, d.waiting_rows
FROM poolscope_data.partitioned k
LEFT JOIN poolscope_data.partition p USING (parent)
CROSS JOIN LATERAL poolscope_data.default_rows(k.parent) d
GROUP BY k.parent, d.default_rows, d.waiting_rows;

-- All findings of these hosts up to their batch n are written.
CREATE FUNCTION poolscope_api.positions_seen(p_host_ids bigint[],
                                             p_ns bigint[])
RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    INSERT INTO detect_position
    SELECT s.host_id, s.n FROM unnest(p_host_ids, p_ns) AS s(host_id, n)
    ON CONFLICT (host_id) DO UPDATE SET n = excluded.n
$$;

CREATE OR REPLACE FUNCTION poolscope_api.finding_write(
    p_host_id bigint, p_change text, p_tag_ids integer[],
    p_onset_at timestamptz, p_detected_at timestamptz,
    p_updated_at timestamptz, p_bytes bigint,
    p_bytes_per_day double precision, p_room_bytes bigint,
    p_exhaustion_at timestamptz, p_exhaustion_earliest timestamptz,
    p_exhaustion_latest timestamptz, p_confidence double precision,
    p_summary text, p_evidence jsonb)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    f record;
    lead tag;
    host_name text := (SELECT host FROM host WHERE host_id = p_host_id);
    the_id bigint;
    old leak;
    new_severity text := severity(p_updated_at, p_exhaustion_at);
    version text;
BEGIN
    SELECT * INTO f FROM finding_leak(p_host_id, p_tag_ids[1], p_change,
                                      p_detected_at, p_updated_at);
    the_id := f.leak_id;
    IF f.action = 'none' THEN
        RETURN the_id;
    ELSIF f.action = 'resolve' THEN
        PERFORM finding_resolve(the_id, p_updated_at, p_bytes, p_room_bytes,
                                p_summary, p_evidence);
        RETURN the_id;
    END IF;

    SELECT * INTO STRICT lead FROM tag WHERE tag_id = p_tag_ids[1];
    version := (SELECT nullif(d.version, '') FROM driver_seen d
                WHERE d.host_id = p_host_id AND d.seen_to IS NULL
                  AND d.driver = lead.driver LIMIT 1);
    IF f.action = 'insert' THEN
        INSERT INTO leak (host_id, tag_id, state, severity, pool, tag, tags,
            cause_kind, scope, hosts_leaking, hosts_reporting, bytes_per_day,
            onset_at, detected_at, updated_at, confidence, summary, evidence)
        VALUES (p_host_id, lead.tag_id, 'open', new_severity, lead.pool,
            lead.tag, '{}', 'unknown', 'host', 1, 1, 0, p_onset_at,
            p_detected_at, p_updated_at, p_confidence, '', '{}')
        RETURNING leak_id INTO the_id;
    END IF;
    SELECT * INTO old FROM leak WHERE leak_id = the_id;
    UPDATE leak SET
        state = CASE WHEN f.action = 'reopen' THEN 'open' ELSE state END,
        resolved_at = NULL,
        onset_at = CASE WHEN f.action = 'reopen' THEN p_onset_at
                        ELSE onset_at END,
        detected_at = CASE WHEN f.action = 'reopen' THEN p_detected_at
                           ELSE detected_at END,
        severity = new_severity,
        tags = ARRAY(SELECT t.tag FROM unnest(p_tag_ids) WITH ORDINALITY
                     AS w(tag_id, i) JOIN tag t ON t.tag_id = w.tag_id
                     ORDER BY w.i),
        cause_kind = CASE WHEN lead.driver IS NULL THEN 'unknown'
                          ELSE 'driver' END,
        cause = lead.driver, driver = lead.driver,
        driver_version = version, owner_driver = lead.driver,
        hosts_leaking = 1,
        hosts_reporting = (SELECT count(*) FROM poolscope.host
                           WHERE status = 'reporting'),
        bytes_per_day = p_bytes_per_day::bigint, updated_at = p_updated_at,
        exhaustion_host = CASE WHEN p_exhaustion_at IS NOT NULL
                               THEN host_name END,
        exhaustion_at = p_exhaustion_at,
        exhaustion_earliest = p_exhaustion_earliest,
        exhaustion_latest = p_exhaustion_latest,
        confidence = p_confidence, summary = p_summary, evidence = p_evidence
    WHERE leak_id = the_id;
    INSERT INTO leak_host VALUES (the_id, p_host_id, 'leaking', p_onset_at,
        p_detected_at, p_bytes, p_bytes_per_day::bigint,
        (SELECT p_updated_at - boot_at FROM poolscope.host
         WHERE host_id = p_host_id),
        version, p_room_bytes, p_exhaustion_at, p_exhaustion_earliest,
        p_exhaustion_latest,
        coalesce((p_evidence ->> 'group_bytes_per_day')::double precision,
                 p_bytes_per_day)::bigint)
    ON CONFLICT (host_id, leak_id) DO UPDATE SET
        state = excluded.state, bytes = excluded.bytes,
        bytes_per_day = excluded.bytes_per_day, uptime = excluded.uptime,
        driver_version = excluded.driver_version,
        room_bytes = excluded.room_bytes,
        exhaustion_at = excluded.exhaustion_at,
        exhaustion_earliest = excluded.exhaustion_earliest,
        exhaustion_latest = excluded.exhaustion_latest,
        group_bytes_per_day = excluded.group_bytes_per_day,
        onset_at = CASE WHEN f.action = 'reopen' THEN excluded.onset_at
                        ELSE leak_host.onset_at END,
        detected_at = CASE WHEN f.action = 'reopen' THEN excluded.detected_at
                           ELSE leak_host.detected_at END;
    IF f.action = 'insert' THEN
        PERFORM leak_note(the_id, p_detected_at, 'opened', p_evidence);
    ELSIF f.action = 'reopen' THEN
        PERFORM leak_note(the_id, p_detected_at, 'reopened', p_evidence);
    ELSIF p_change = 'changed' OR old.severity <> new_severity THEN
        PERFORM finding_note_change(old);
    END IF;
    RETURN the_id;
END $$;

GRANT SELECT ON poolscope.tag_alias, poolscope.storage
    TO poolscope_reader, poolscope_writer;
GRANT EXECUTE ON FUNCTION poolscope_data.default_rows(text)
    TO poolscope_reader, poolscope_writer;
GRANT EXECUTE ON FUNCTION
    poolscope_api.positions_seen(bigint[], bigint[])
    TO poolscope_writer;
