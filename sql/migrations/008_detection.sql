-- What the collector's worker reads, and how findings are written.

CREATE FUNCTION poolscope_api.host_positions()
RETURNS TABLE (host_id bigint, n bigint, interval_us bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT c.host_id, c.n, s.interval_us
    FROM ingest_cursor c LEFT JOIN host_state s USING (host_id)
    WHERE c.n > 0 ORDER BY c.host_id
$$;

CREATE FUNCTION poolscope_api.tag_rows(
    p_host_id bigint, p_after_n bigint, p_since timestamptz,
    p_max_rows integer)
RETURNS TABLE (n bigint, at timestamptz, boot_id uuid, keyframe boolean,
               tag_ids integer[], outstanding bigint[], bytes bigint[],
               gone integer[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    from_n bigint := p_after_n + 1;
BEGIN
    IF p_after_n = 0 THEN
        from_n := coalesce(
            tags_keyframe(p_host_id,
                (SELECT s.n FROM snapshot s WHERE s.host_id = p_host_id
                 AND s.at >= p_since ORDER BY s.at LIMIT 1)),
            (SELECT s.n FROM snapshot s WHERE s.host_id = p_host_id
             AND s.keyframe ORDER BY s.n LIMIT 1));
    END IF;
    RETURN QUERY
    SELECT s.n, s.at, s.boot_id, s.keyframe, s.tag_ids, s.outstanding,
        s.bytes, s.gone
    FROM snapshot s
    WHERE s.host_id = p_host_id AND s.n >= from_n
    ORDER BY s.n LIMIT p_max_rows;
END $$;

CREATE FUNCTION poolscope_api.counter_rows(
    p_host_id bigint, p_after_n bigint, p_since timestamptz,
    p_max_rows integer)
RETURNS TABLE (n bigint, at timestamptz, keyframe boolean,
               counter_ids integer[], counter_values double precision[],
               gone integer[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    from_n bigint := p_after_n + 1;
BEGIN
    IF p_after_n = 0 THEN
        from_n := coalesce(
            counters_keyframe(p_host_id,
                (SELECT s.n FROM counter_sample s WHERE s.host_id = p_host_id
                 AND s.at >= p_since ORDER BY s.at LIMIT 1)),
            (SELECT s.n FROM counter_sample s WHERE s.host_id = p_host_id
             AND s.keyframe ORDER BY s.n LIMIT 1));
    END IF;
    RETURN QUERY
    SELECT s.n, s.at, s.keyframe, s.counter_ids, s.counter_values, s.gone
    FROM counter_sample s
    WHERE s.host_id = p_host_id AND s.n >= from_n
    ORDER BY s.n LIMIT p_max_rows;
END $$;

CREATE FUNCTION poolscope_api.tag_info(p_tag_ids integer[])
RETURNS TABLE (tag_id integer, pool text, tag text, flags integer,
               driver text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT t.tag_id, t.pool, t.tag, t.flags, t.driver
    FROM tag t WHERE t.tag_id = ANY (p_tag_ids) ORDER BY t.tag_id
$$;

CREATE FUNCTION poolscope_api.counter_id(p_counter text, p_instance text)
RETURNS integer LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT counter_id FROM counter_name
    WHERE counter = p_counter AND instance = p_instance
$$;

CREATE FUNCTION poolscope_api.findings_open(p_host_id bigint)
RETURNS TABLE (leak_id bigint, host_id bigint, tag_id integer,
               onset_at timestamptz, detected_at timestamptz,
               updated_at timestamptz, evidence jsonb)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT l.leak_id, l.host_id, l.tag_id, l.onset_at, l.detected_at,
        l.updated_at, l.evidence
    FROM leak l
    WHERE l.state <> 'resolved' AND l.host_id IS NOT NULL
      AND (p_host_id IS NULL OR l.host_id = p_host_id)
    ORDER BY l.leak_id
$$;

-- Seen from p_at: within three days it is critical; beyond half a year, or
-- not in sight, it is information.
CREATE FUNCTION poolscope_data.severity(p_at timestamptz,
                                        p_exhaustion_at timestamptz)
RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_exhaustion_at <= p_at + interval '3 days'
                THEN 'critical'
                WHEN p_exhaustion_at <= p_at + interval '180 days'
                THEN 'warning'
                ELSE 'info' END
$$;

-- One row of leak_event, about the leak as it stands.
CREATE FUNCTION poolscope_data.leak_note(p_leak_id bigint, p_at timestamptz,
                                         p_kind text, p_details jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO poolscope_data.leak_event
        (leak_id, at, kind, driver, driver_version, severity, details)
    SELECT leak_id, p_at, p_kind, driver, driver_version, severity, p_details
    FROM poolscope_data.leak WHERE leak_id = p_leak_id
$$;

-- A finding of one host is known by host and leading tag. The newest leak of
-- that key is the one meant, unless it was resolved more than a day before
-- this evidence was complete. What an earlier run has written already, and
-- detection says again while it replays stored samples, changes nothing.
CREATE FUNCTION poolscope_data.finding_leak(
    p_host_id bigint, p_tag_id integer, p_change text,
    p_detected_at timestamptz, p_updated_at timestamptz,
    OUT leak_id bigint, OUT action text)
LANGUAGE plpgsql SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    old leak;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('poolscope finding'),
                                  (p_host_id % 2147483647)::integer);
    SELECT * INTO old FROM leak l
    WHERE l.host_id = p_host_id AND l.tag_id = p_tag_id
    ORDER BY l.leak_id DESC LIMIT 1;
    leak_id := old.leak_id;
    IF p_change = 'resolved' THEN
        action := CASE WHEN old.state <> 'resolved'
                            AND p_updated_at >= old.updated_at
                       THEN 'resolve' ELSE 'none' END;
    ELSIF leak_id IS NULL THEN
        action := 'insert';
    ELSIF old.state <> 'resolved' THEN
        action := CASE WHEN p_updated_at >= old.updated_at
                       THEN 'update' ELSE 'none' END;
    ELSIF p_detected_at <= old.resolved_at THEN
        action := 'none';
    ELSIF p_detected_at <= old.resolved_at + interval '1 day' THEN
        action := 'reopen';
    ELSE
        action := 'insert';
    END IF;
END $$;

-- It is over: what was a forecast is none any more.
CREATE FUNCTION poolscope_data.finding_resolve(
    p_leak_id bigint, p_at timestamptz, p_bytes bigint, p_room_bytes bigint,
    p_summary text, p_evidence jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    UPDATE leak SET state = 'resolved', resolved_at = p_at, updated_at = p_at,
        hosts_leaking = 0, exhaustion_host = NULL, exhaustion_at = NULL,
        exhaustion_earliest = NULL, exhaustion_latest = NULL,
        summary = p_summary, evidence = p_evidence
    WHERE leak_id = p_leak_id;
    UPDATE leak_host SET state = 'resolved', bytes = p_bytes,
        room_bytes = p_room_bytes, exhaustion_at = NULL,
        exhaustion_earliest = NULL, exhaustion_latest = NULL
    WHERE leak_id = p_leak_id;
    PERFORM leak_note(p_leak_id, p_at, 'resolved', NULL);
END $$;

-- What changed of a leak since p_old, with what it was before. Said again, as
-- detection does while it replays stored samples, it is no news. Of such rows a
-- leak keeps its newest 200.
CREATE FUNCTION poolscope_data.finding_note_change(p_old poolscope_data.leak)
RETURNS void LANGUAGE plpgsql SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    now leak;
    details jsonb := '{}';
    name text;
BEGIN
    SELECT * INTO now FROM leak l WHERE l.leak_id = p_old.leak_id;
    FOREACH name IN ARRAY ARRAY['severity', 'tags', 'bytes_per_day',
                                'exhaustion_at'] LOOP
        IF to_jsonb(now) -> name <> to_jsonb(p_old) -> name THEN
            details := details || jsonb_build_object(
                name, to_jsonb(now) -> name,
                name || '_before', to_jsonb(p_old) -> name);
        END IF;
    END LOOP;
    IF details = '{}' THEN
        RETURN;
    END IF;
    PERFORM leak_note(now.leak_id, now.updated_at, 'changed', details);
    DELETE FROM leak_event WHERE leak_event_id IN (
        SELECT e.leak_event_id FROM leak_event e
        WHERE e.leak_id = now.leak_id AND e.kind = 'changed'
        ORDER BY e.at DESC, e.leak_event_id DESC OFFSET 200);
END $$;

CREATE FUNCTION poolscope_api.finding_write(
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
        p_exhaustion_latest)
    ON CONFLICT (host_id, leak_id) DO UPDATE SET
        state = excluded.state, bytes = excluded.bytes,
        bytes_per_day = excluded.bytes_per_day, uptime = excluded.uptime,
        driver_version = excluded.driver_version,
        room_bytes = excluded.room_bytes,
        exhaustion_at = excluded.exhaustion_at,
        exhaustion_earliest = excluded.exhaustion_earliest,
        exhaustion_latest = excluded.exhaustion_latest,
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
