-- The contract: what dashboards read. Columns are added, never renamed or
-- dropped. docs/store.md explains them.

CREATE VIEW poolscope.host AS
SELECT h.host_id, h.host,
    coalesce(nullif(s.os, ''), h.os) AS os,
    s.os_version, s.os_build,
    coalesce(h.admin_labels ->> 'role', s.role, '') AS role,
    coalesce(h.admin_labels ->> 'region', s.region, '') AS region,
    coalesce(s.labels, '{}') || h.admin_labels AS labels,
    s.agent_version, c.boot_id, b.boot_at,
    coalesce(c.first_at, h.enrolled_at) AS first_seen,
    greatest(c.last_at, s.seen_at) AS last_seen,
    CASE WHEN h.disabled_at IS NOT NULL THEN 'disabled'
         WHEN greatest(c.last_at, s.seen_at) >= now() - greatest(
                  interval '5 minutes',
                  3 * s.interval_us * interval '1 microsecond')
         THEN 'reporting'
         ELSE 'silent' END AS status,
    s.ram_bytes,
    s.clock_offset_us * interval '1 microsecond' AS clock_offset,
    s.spool_bytes,
    coalesce(s.agent_dropped_batches, 0) AS dropped_batches,
    coalesce((SELECT jsonb_object_agg(e ->> 'name', e - 'name')
              FROM jsonb_array_elements(s.sources) e
              WHERE e ->> 'state' <> 'ok'), '{}') AS source_errors,
    s.interval_us * interval '1 microsecond' AS sample_interval,
    c.missed_ticks, s.collector, h.not_after AS certificate_expires
FROM poolscope_data.host h
LEFT JOIN poolscope_data.host_state s USING (host_id)
LEFT JOIN poolscope_data.ingest_cursor c USING (host_id)
LEFT JOIN poolscope_data.boot b
    ON b.host_id = h.host_id AND b.boot_id = c.boot_id;

CREATE VIEW poolscope.boot AS
SELECT b.host_id, h.host, b.boot_id, b.boot_at,
    CASE WHEN b.boot_id = c.boot_id THEN c.last_at
         ELSE b.last_seen END AS last_seen
FROM poolscope_data.boot b
JOIN poolscope_data.host h USING (host_id)
LEFT JOIN poolscope_data.ingest_cursor c USING (host_id);

CREATE VIEW poolscope.driver AS
SELECT d.host_id, h.host, d.driver, d.version, d.company, d.product, d.path,
    d.link_time, d.loaded_at, d.loaded_matches_file, d.seen_from, d.seen_to,
    d.srcversion, d.sha256, d.size_bytes
FROM poolscope_data.driver_seen d
JOIN poolscope_data.host h USING (host_id);

CREATE VIEW poolscope.driver_version AS
SELECT d.driver, d.version,
    count(DISTINCT d.host_id) AS hosts,
    count(DISTINCT l.host_id) AS leaking_hosts
FROM poolscope_data.driver_seen d
LEFT JOIN (
    SELECT lh.host_id, k.driver, k.driver_version
    FROM poolscope_data.leak k
    JOIN poolscope_data.leak_host lh USING (leak_id)
    WHERE k.state <> 'resolved' AND lh.state <> 'resolved'
) l ON l.host_id = d.host_id AND l.driver = d.driver
   AND (l.driver_version IS NULL OR l.driver_version = d.version)
WHERE d.seen_to IS NULL
GROUP BY d.driver, d.version;

CREATE VIEW poolscope.tag_driver AS
SELECT t.pool, t.tag, t.driver, 1.0::double precision AS confidence,
    'the kernel names the module in the tag'::text AS evidence
FROM poolscope_data.tag t
WHERE t.driver IS NOT NULL;

CREATE VIEW poolscope.pool_now AS
SELECT h.host_id, h.host, t.pool, t.tag, t.driver, x.allocs, x.frees,
    x.outstanding, x.bytes, c.tags_at AS at
FROM poolscope_data.host h
JOIN poolscope_data.ingest_cursor c USING (host_id)
CROSS JOIN LATERAL poolscope_data.tags_state(
    c.host_id, c.tags_keyframe_n, c.tags_n) x
JOIN poolscope_data.tag t ON t.tag_id = x.tag_id;

CREATE VIEW poolscope.counter_now AS
SELECT h.host_id, h.host, t.counter, t.instance, x.value,
    c.counters_at AS at
FROM poolscope_data.host h
JOIN poolscope_data.ingest_cursor c USING (host_id)
CROSS JOIN LATERAL poolscope_data.counters_state(
    c.host_id, c.counters_keyframe_n, c.counters_n) x
JOIN poolscope_data.counter_name t ON t.counter_id = x.counter_id;

-- since and until are inclusive. The fold starts at the newest keyframe at or
-- before the first snapshot asked for.
CREATE FUNCTION poolscope.pool_history(
    host text, pool text, tag text, since timestamptz, until timestamptz)
RETURNS TABLE (at timestamptz, allocs bigint, frees bigint,
               outstanding bigint, bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    the_host bigint := (SELECT h.host_id FROM host h
                        WHERE h.host = pool_history.host);
    the_tag integer := (SELECT t.tag_id FROM tag t
                        WHERE t.pool = pool_history.pool
                          AND t.tag = pool_history.tag);
    n_first bigint;
    n_last bigint;
    has boolean := false;
    s record;
BEGIN
    SELECT min(x.n), max(x.n) INTO n_first, n_last FROM snapshot x
    WHERE x.host_id = the_host AND x.at BETWEEN since AND until;
    FOR s IN
        SELECT x.at, x.keyframe, x.i, x.allocs[x.i] AS allocs,
            x.frees[x.i] AS frees, x.outstanding[x.i] AS outstanding,
            x.bytes[x.i] AS bytes, the_tag = ANY (x.gone) AS gone
        FROM (SELECT *, array_position(y.tag_ids, the_tag) AS i
              FROM snapshot y
              WHERE y.host_id = the_host AND y.n <= n_last
                AND y.n >= coalesce(tags_keyframe(the_host, n_first), n_first)
              OFFSET 0) x
        ORDER BY x.n
    LOOP
        IF s.i IS NOT NULL THEN
            has := true;
            allocs := s.allocs;
            frees := s.frees;
            outstanding := s.outstanding;
            bytes := s.bytes;
        ELSIF s.keyframe OR s.gone THEN
            has := false;
        END IF;
        IF has AND s.at BETWEEN since AND until THEN
            at := s.at;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION poolscope.counter_history(
    INOUT host text, INOUT counter text, INOUT instance text,
    since timestamptz, until timestamptz,
    OUT value double precision, OUT at timestamptz, OUT host_id bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    the_counter integer := (
        SELECT c.counter_id FROM counter_name c
        WHERE c.counter = counter_history.counter
          AND c.instance = counter_history.instance);
    n_first bigint;
    n_last bigint;
    has boolean := false;
    s record;
BEGIN
    host_id := (SELECT h.host_id FROM host h
                WHERE h.host = counter_history.host);
    SELECT min(x.n), max(x.n) INTO n_first, n_last FROM counter_sample x
    WHERE x.host_id = counter_history.host_id
      AND x.at BETWEEN since AND until;
    FOR s IN
        SELECT x.at, x.keyframe, x.i, x.counter_values[x.i] AS value,
            the_counter = ANY (x.gone) AS gone
        FROM (SELECT *, array_position(y.counter_ids, the_counter) AS i
              FROM counter_sample y
              WHERE y.host_id = counter_history.host_id AND y.n <= n_last
                AND y.n >= coalesce(counters_keyframe(
                        counter_history.host_id, n_first), n_first)
              OFFSET 0) x
        ORDER BY x.n
    LOOP
        IF s.i IS NOT NULL THEN
            has := true;
            value := s.value;
        ELSIF s.keyframe OR s.gone THEN
            has := false;
        END IF;
        IF has AND s.at BETWEEN since AND until THEN
            at := s.at;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- Summaries for the hours before a host's oldest row that is not rolled up,
-- its samples for the others: an hour never comes from both.
CREATE VIEW poolscope.pool_hour AS
SELECT h.host_id, h.host, t.pool, t.tag, x.hour, x.first_bytes, x.last_bytes,
    x.min_bytes, x.max_bytes, x.mean_bytes, x.last_outstanding
FROM poolscope_data.host h
CROSS JOIN LATERAL (
    SELECT coalesce(poolscope_data.live_from(h.host_id), 'infinity') AS hour
    OFFSET 0) live
CROSS JOIN LATERAL (
    SELECT s.hour, unnest(s.tag_ids) AS tag_id,
        unnest(s.first_bytes) AS first_bytes,
        unnest(s.last_bytes) AS last_bytes, unnest(s.min_bytes) AS min_bytes,
        unnest(s.max_bytes) AS max_bytes, unnest(s.mean_bytes) AS mean_bytes,
        unnest(s.last_outstanding) AS last_outstanding
    FROM poolscope_data.pool_summary s
    WHERE s.host_id = h.host_id AND s.hour < live.hour) x
JOIN poolscope_data.tag t ON t.tag_id = x.tag_id
UNION ALL
SELECT h.host_id, h.host, t.pool, t.tag, l.hour, x.first_bytes, x.last_bytes,
    x.min_bytes, x.max_bytes, x.mean_bytes, x.last_outstanding
FROM poolscope_data.host h
CROSS JOIN LATERAL poolscope_data.live_hours(h.host_id) l
CROSS JOIN LATERAL poolscope_data.tags_hour(h.host_id, l.hour) x
JOIN poolscope_data.tag t ON t.tag_id = x.tag_id;

CREATE VIEW poolscope.counter_hour AS
SELECT h.host_id, h.host, t.counter, t.instance, x.mean_value AS value,
    x.hour AS at, x.first_value, x.last_value, x.min_value, x.max_value
FROM poolscope_data.host h
CROSS JOIN LATERAL (
    SELECT coalesce(poolscope_data.live_from(h.host_id), 'infinity') AS hour
    OFFSET 0) live
CROSS JOIN LATERAL (
    SELECT s.hour, unnest(s.counter_ids) AS counter_id,
        unnest(s.first_values) AS first_value,
        unnest(s.last_values) AS last_value,
        unnest(s.min_values) AS min_value, unnest(s.max_values) AS max_value,
        unnest(s.mean_values) AS mean_value
    FROM poolscope_data.counter_summary s
    WHERE s.host_id = h.host_id AND s.hour < live.hour) x
JOIN poolscope_data.counter_name t ON t.counter_id = x.counter_id
UNION ALL
SELECT h.host_id, h.host, t.counter, t.instance, x.mean_value, l.hour,
    x.first_value, x.last_value, x.min_value, x.max_value
FROM poolscope_data.host h
CROSS JOIN LATERAL poolscope_data.live_hours(h.host_id) l
CROSS JOIN LATERAL poolscope_data.counters_hour(h.host_id, l.hour) x
JOIN poolscope_data.counter_name t ON t.counter_id = x.counter_id;

-- Every tag now against the same tag over_last ago, over all hosts with a
-- snapshot since then. "Now" is the newest snapshot of the fleet, so that an
-- imported history answers too; a host's own end is its newest snapshot, its
-- start the newest one at or before the moment over_last ago (a younger
-- host's first). A tag that an end does not have counts as 0 bytes there.
CREATE FUNCTION poolscope.fleet_growth(over_last interval)
RETURNS TABLE (pool text, tag text, driver text, hosts bigint,
               growing_hosts bigint, growth_bytes bigint, bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    begin_at timestamptz := (SELECT max(tags_at) - over_last
                             FROM ingest_cursor WHERE in_range(tags_at));
BEGIN
    RETURN QUERY
    WITH ends AS MATERIALIZED (
        SELECT c.host_id, c.tags_n, c.tags_keyframe_n, coalesce(
            (SELECT s.n FROM snapshot s WHERE s.host_id = c.host_id
             AND s.at <= begin_at ORDER BY s.at DESC LIMIT 1),
            (SELECT s.n FROM snapshot s WHERE s.host_id = c.host_id
             AND s.at > begin_at ORDER BY s.at LIMIT 1)) AS start_n
        FROM ingest_cursor c
        WHERE c.tags_at >= begin_at
    ), values AS (
        SELECT e.host_id, x.tag_id, x.bytes AS end_bytes,
            NULL::bigint AS start_bytes
        FROM ends e CROSS JOIN LATERAL
            tags_state(e.host_id, e.tags_keyframe_n, e.tags_n) x
        UNION ALL
        SELECT e.host_id, x.tag_id, NULL, x.bytes
        FROM ends e CROSS JOIN LATERAL tags_state(
            e.host_id, tags_keyframe(e.host_id, e.start_n), e.start_n) x
    ), hosts AS (
        SELECT v.host_id, v.tag_id, max(v.end_bytes) AS end_bytes,
            coalesce(max(v.end_bytes), 0) - coalesce(max(v.start_bytes), 0)
                AS growth
        FROM values v
        GROUP BY v.host_id, v.tag_id
    )
    SELECT t.pool, t.tag, t.driver, count(g.end_bytes),
        count(*) FILTER (WHERE g.growth > 0), sum(g.growth)::bigint,
        coalesce(sum(g.end_bytes), 0)::bigint
    FROM hosts g JOIN tag t ON t.tag_id = g.tag_id
    GROUP BY t.pool, t.tag, t.driver;
END $$;

-- What a host can run out of. Commit binds only where the kernel enforces it
-- (vm.overcommit_memory = 2). Open files have a limit too but are no bytes.
CREATE VIEW poolscope.host_room AS
SELECT v.host_id, v.host, r.resource, r.limit_bytes, r.used_bytes,
    r.limit_bytes - r.used_bytes AS room_bytes, v.at
FROM (
    SELECT c.host_id, c.host, max(c.at) AS at,
        max(c.value) FILTER (WHERE c.counter = 'node_memory_MemTotal_bytes')
            AS total,
        max(c.value) FILTER (
            WHERE c.counter = 'node_memory_MemAvailable_bytes') AS available,
        max(c.value) FILTER (
            WHERE c.counter = 'node_memory_CommitLimit_bytes') AS commit_limit,
        max(c.value) FILTER (
            WHERE c.counter = 'node_memory_Committed_AS_bytes') AS committed,
        max(c.value) FILTER (
            WHERE c.counter = 'poolscope_vm_overcommit_memory') AS overcommit
    FROM poolscope.counter_now c
    WHERE c.instance = ''
    GROUP BY c.host_id, c.host
) v
CROSS JOIN LATERAL (VALUES
    ('available memory', v.total::bigint, (v.total - v.available)::bigint),
    ('commit', CASE WHEN v.overcommit = 2 THEN v.commit_limit::bigint END,
     v.committed::bigint)
) r(resource, limit_bytes, used_bytes)
WHERE r.limit_bytes IS NOT NULL AND r.used_bytes IS NOT NULL;

CREATE VIEW poolscope.event AS
SELECT e.host_id, h.host, e.at, e.source, e.event_id, e.message, e.details
FROM poolscope_data.event e
JOIN poolscope_data.host h USING (host_id);

CREATE VIEW poolscope.leak AS
SELECT l.leak_id,
    CASE WHEN l.state = 'muted' AND l.muted_until <= now() THEN 'open'
         ELSE l.state END AS state,
    l.severity, l.pool, l.tag, l.tags, l.cause_kind, l.cause, l.driver,
    l.driver_version, l.owner_driver, l.process, l.process_version, l.scope,
    l.hosts_leaking, l.hosts_reporting, l.bytes_per_day, l.onset_at,
    l.detected_at, l.updated_at, l.resolved_at, l.exhaustion_host,
    l.exhaustion_at, l.exhaustion_earliest, l.exhaustion_latest,
    l.confidence, l.summary, l.evidence, l.acked_by, l.muted_until
FROM poolscope_data.leak l;

CREATE VIEW poolscope.leak_host AS
SELECT l.leak_id, l.host_id, h.host, l.state, l.onset_at, l.detected_at,
    l.bytes, l.bytes_per_day, l.uptime, l.driver_version, l.room_bytes,
    l.exhaustion_at, l.exhaustion_earliest, l.exhaustion_latest
FROM poolscope_data.leak_host l
JOIN poolscope_data.host h USING (host_id);

CREATE VIEW poolscope.leak_event AS
SELECT leak_id, at, kind, driver, driver_version, severity, details
FROM poolscope_data.leak_event;

CREATE VIEW poolscope.leak_attribution AS
SELECT leak_id, rank, attribute, value, hosts_with, leaking_with,
    hosts_without, leaking_without, shift_bytes_per_day, p_value,
    indistinguishable_from
FROM poolscope_data.leak_attribution;

CREATE VIEW poolscope.leak_series AS
SELECT leak_id, at, side, hosts, mean_bytes
FROM poolscope_data.leak_series;

CREATE VIEW poolscope.alert AS
SELECT alert_id, leak_id, kind, severity, channel, state, created_at,
    next_attempt_at, delivered_at, attempts, last_error
FROM poolscope_data.alert;

CREATE VIEW poolscope.collector AS
SELECT collector, at, metrics FROM poolscope_data.collector_status;

CREATE VIEW poolscope.setting AS
SELECT name, value, meaning FROM poolscope_data.setting;
