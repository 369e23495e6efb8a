-- The contract over both tiers: a host's samples up to host_settle's n are read
-- from chunks, those beyond it from fresh rows. Each statement sees all tables
-- at one moment (functions are STABLE for that), so no sample is shown twice or
-- missed while settling goes on.
--
-- A chunk lies in a span of at most 4 hours: hence the conditions on span_at,
-- by which partitions that cannot matter are left out.

-- A host's fresh rows with tags from which follow its states at the times from
-- p_since to p_until: the first is a keyframe. NULL: none is needed.
CREATE FUNCTION poolscope_data.fresh_tags(
    p_host_id bigint, p_since timestamptz, p_until timestamptz,
    OUT ns bigint[], OUT ats timestamptz[], OUT kinds smallint[],
    OUT rows bytea[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    settled bigint := coalesce((SELECT s.tags_n FROM host_settle s
                                WHERE s.host_id = p_host_id), 0);
    n_first bigint;
    n_last bigint;
BEGIN
    SELECT min(f.n), max(f.n) INTO n_first, n_last FROM fresh f
    WHERE f.host_id = p_host_id AND f.n > settled AND f.tags_kind > 0
      AND f.at BETWEEN p_since AND p_until;
    IF n_first IS NULL THEN
        RETURN;
    END IF;
    n_first := (SELECT max(f.n) FROM fresh f
                WHERE f.host_id = p_host_id AND f.n > settled
                  AND f.n <= n_first AND f.tags_kind = 2);
    SELECT array_agg(f.n ORDER BY f.n), array_agg(f.at ORDER BY f.n),
        array_agg(f.tags_kind ORDER BY f.n), array_agg(f.tags ORDER BY f.n)
    INTO ns, ats, kinds, rows FROM fresh f
    WHERE f.host_id = p_host_id AND f.n BETWEEN n_first AND n_last
      AND f.tags_kind > 0;
END $$;

-- The same of counters.
CREATE FUNCTION poolscope_data.fresh_counters(
    p_host_id bigint, p_since timestamptz, p_until timestamptz,
    OUT ns bigint[], OUT ats timestamptz[], OUT kinds smallint[],
    OUT rows bytea[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    settled bigint := coalesce((SELECT s.counters_n FROM host_settle s
                                WHERE s.host_id = p_host_id), 0);
    n_first bigint;
    n_last bigint;
BEGIN
    SELECT min(f.n), max(f.n) INTO n_first, n_last FROM fresh f
    WHERE f.host_id = p_host_id AND f.n > settled AND f.counters_kind > 0
      AND f.at BETWEEN p_since AND p_until;
    IF n_first IS NULL THEN
        RETURN;
    END IF;
    n_first := (SELECT max(f.n) FROM fresh f
                WHERE f.host_id = p_host_id AND f.n > settled
                  AND f.n <= n_first AND f.counters_kind = 2);
    SELECT array_agg(f.n ORDER BY f.n), array_agg(f.at ORDER BY f.n),
        array_agg(f.counters_kind ORDER BY f.n),
        array_agg(f.counters ORDER BY f.n)
    INTO ns, ats, kinds, rows FROM fresh f
    WHERE f.host_id = p_host_id AND f.n BETWEEN n_first AND n_last
      AND f.counters_kind > 0;
END $$;

-- ------------------------------------------------------------------- now

-- The tags of a host after its newest row with tags, p_n of time p_at, whose
-- keyframe is p_keyframe_n. Rows that are settled serve until their slot is
-- emptied; from then on the last chunk ends with that row.
CREATE FUNCTION poolscope_data.tags_now(
    p_host_id bigint, p_keyframe_n bigint, p_n bigint, p_at timestamptz)
RETURNS TABLE (tag_id integer, allocs bigint, frees bigint,
               outstanding bigint, bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 3000
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    f record;
BEGIN
    SELECT min(x.n) AS n, array_agg(x.tags ORDER BY x.n) AS rows,
        array_agg(x.tags_kind ORDER BY x.n) AS kinds INTO f
    FROM fresh x
    WHERE x.host_id = p_host_id AND x.n BETWEEN p_keyframe_n AND p_n
      AND x.tags_kind > 0;
    IF f.n = p_keyframe_n THEN
        RETURN QUERY
        SELECT s.id, s.allocs, s.frees, s.outstanding, s.bytes
        FROM stored_tags_state(f.rows, f.kinds) s;
    ELSE
        RETURN QUERY
        SELECT e.id, e.allocs, e.frees, e.outstanding, e.bytes
        FROM tag_chunk c
        CROSS JOIN LATERAL chunk_end(c.head, c.levels, c.data) e
        WHERE c.host_id = p_host_id AND c.n_to = p_n
          AND c.span_at <= p_at AND c.span_at > p_at - interval '4 hours';
    END IF;
END $$;

CREATE FUNCTION poolscope_data.counters_now(
    p_host_id bigint, p_keyframe_n bigint, p_n bigint, p_at timestamptz)
RETURNS TABLE (counter_id integer, value double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 300
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    f record;
BEGIN
    SELECT min(x.n) AS n, array_agg(x.counters ORDER BY x.n) AS rows,
        array_agg(x.counters_kind ORDER BY x.n) AS kinds INTO f
    FROM fresh x
    WHERE x.host_id = p_host_id AND x.n BETWEEN p_keyframe_n AND p_n
      AND x.counters_kind > 0;
    IF f.n = p_keyframe_n THEN
        RETURN QUERY
        SELECT s.id, s.value FROM stored_counters_state(f.rows, f.kinds) s;
    ELSE
        RETURN QUERY
        SELECT e.id, e.value
        FROM counter_chunk c
        CROSS JOIN LATERAL chunk_counter_end(c.head, c.levels, c.data) e
        WHERE c.host_id = p_host_id AND c.n_to = p_n
          AND c.span_at <= p_at AND c.span_at > p_at - interval '4 hours';
    END IF;
END $$;

CREATE OR REPLACE VIEW poolscope.pool_now AS
SELECT h.host_id, h.host, t.pool, t.tag, t.driver, x.allocs, x.frees,
    x.outstanding, x.bytes, c.tags_at AS at
FROM poolscope_data.host h
JOIN poolscope_data.ingest_cursor c USING (host_id)
CROSS JOIN LATERAL poolscope_data.tags_now(
    c.host_id, c.tags_keyframe_n, c.tags_n, c.tags_at) x
JOIN poolscope_data.tag t ON t.tag_id = x.tag_id;

CREATE OR REPLACE VIEW poolscope.counter_now AS
SELECT h.host_id, h.host, t.counter, t.instance, x.value,
    c.counters_at AS at
FROM poolscope_data.host h
JOIN poolscope_data.ingest_cursor c USING (host_id)
CROSS JOIN LATERAL poolscope_data.counters_now(
    c.host_id, c.counters_keyframe_n, c.counters_n, c.counters_at) x
JOIN poolscope_data.counter_name t ON t.counter_id = x.counter_id;

-- --------------------------------------------------------------- history

-- since and until are inclusive.
CREATE OR REPLACE FUNCTION poolscope.pool_history(
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
BEGIN
    RETURN QUERY
    SELECT x.at, x.allocs, x.frees, x.outstanding, x.bytes
    FROM (
        SELECT p.n, p.at, p.allocs, p.frees, p.outstanding, p.bytes
        FROM tag_chunk c
        CROSS JOIN LATERAL chunk_find(c.head, the_tag) b
        CROSS JOIN LATERAL chunk_points(c.head,
            substr(c.levels, b.levels_from, b.levels_length),
            substr(c.data, b.data_from, b.data_length), the_tag) p
        WHERE c.host_id = the_host AND c.span_at > since - interval '4 hours'
          AND c.span_at <= until AND c.at_to >= since AND c.at_from <= until
        UNION ALL
        SELECT f.ns[p.i], f.ats[p.i], p.allocs, p.frees, p.outstanding,
            p.bytes
        FROM fresh_tags(the_host, since, until) f
        CROSS JOIN LATERAL stored_tag_points(f.rows, f.kinds, the_tag) p
    ) x
    WHERE x.at BETWEEN since AND until
    ORDER BY x.at, x.n;
END $$;

CREATE OR REPLACE FUNCTION poolscope.counter_history(
    INOUT host text, INOUT counter text, INOUT instance text,
    since timestamptz, until timestamptz,
    OUT value double precision, OUT at timestamptz, OUT host_id bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    the_host bigint := (SELECT h.host_id FROM host h
                        WHERE h.host = counter_history.host);
    the_counter integer := (
        SELECT c.counter_id FROM counter_name c
        WHERE c.counter = counter_history.counter
          AND c.instance = counter_history.instance);
BEGIN
    RETURN QUERY
    SELECT counter_history.host, counter_history.counter,
        counter_history.instance, x.value, x.at, the_host
    FROM (
        SELECT p.n, p.at, p.value
        FROM counter_chunk c
        CROSS JOIN LATERAL chunk_find(c.head, the_counter) b
        CROSS JOIN LATERAL chunk_counter_points(c.head,
            substr(c.levels, b.levels_from, b.levels_length),
            substr(c.data, b.data_from, b.data_length), the_counter) p
        WHERE c.host_id = the_host AND c.span_at > since - interval '4 hours'
          AND c.span_at <= until AND c.at_to >= since AND c.at_from <= until
        UNION ALL
        SELECT f.ns[p.i], f.ats[p.i], p.value
        FROM fresh_counters(the_host, since, until) f
        CROSS JOIN LATERAL
            stored_counter_points(f.rows, f.kinds, the_counter) p
    ) x
    WHERE x.at BETWEEN since AND until
    ORDER BY x.at, x.n;
END $$;

-- ----------------------------------------------------------------- hours

-- The hours for which there may be chunks. Views of hours go through them, one
-- after the other, so that a condition on the hour says which partitions to
-- look into and which chunks to decode.
CREATE FUNCTION poolscope_data.chunk_hours() RETURNS SETOF timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 200
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    latest CONSTANT timestamptz := now() + interval '1 hour';
BEGIN
    RETURN QUERY
    SELECT h FROM (
        SELECT p.from_at AS since, p.to_at - interval '1 hour' AS until
        FROM partition p WHERE p.parent IN ('tag_chunk', 'counter_chunk')
        UNION
        SELECT date_trunc('hour', c.at_from, 'UTC'), c.at_to
        FROM tag_chunk_default c WHERE in_range(c.at_from)
        UNION
        SELECT date_trunc('hour', c.at_from, 'UTC'), c.at_to
        FROM counter_chunk_default c WHERE in_range(c.at_from)
    ) x
    CROSS JOIN LATERAL generate_series(x.since, least(x.until, latest),
                                       interval '1 hour') h
    GROUP BY h;
END $$;

-- An hour's samples may lie in several chunks and in fresh rows: statistics of
-- each are brought together. Hours of a day that is summed up come from there
-- instead of its chunks. All columns that are no statistics are grouped by,
-- since conditions on these, and only these, reach the tables. OFFSET 0 keeps
-- the order of hosts, hours, chunks.
CREATE OR REPLACE VIEW poolscope.pool_hour AS
SELECT x.host_id, x.host, x.pool, x.tag, x.hour,
    (min(ARRAY[x.first_us, x.first_bytes]))[2] AS first_bytes,
    (max(ARRAY[x.last_us, x.last_bytes]))[2] AS last_bytes,
    min(x.min_bytes) AS min_bytes, max(x.max_bytes) AS max_bytes,
    round(sum(x.sum_bytes) / sum(x.n))::bigint AS mean_bytes,
    (max(ARRAY[x.last_us, x.last_outstanding]))[2] AS last_outstanding,
    x.day
FROM (
    SELECT h.host_id, h.host, t.pool, t.tag, hours.hour,
        date_trunc('day', hours.hour, 'UTC') AS day, s.n,
        (date_part('epoch', s.first_at) * 1e6)::bigint AS first_us,
        (date_part('epoch', s.last_at) * 1e6)::bigint AS last_us,
        s.first_bytes, s.last_bytes, s.min_bytes, s.max_bytes, s.sum_bytes,
        s.last_outstanding
    FROM poolscope_data.host h
    CROSS JOIN poolscope_data.chunk_hours() hours(hour)
    CROSS JOIN LATERAL (
        SELECT * FROM poolscope_data.tag_chunk c
        WHERE c.host_id = h.host_id
          AND c.span_at > hours.hour - interval '4 hours'
          AND c.span_at < hours.hour + interval '1 hour'
          AND c.at_from < hours.hour + interval '1 hour'
          AND c.at_to >= hours.hour
          AND NOT EXISTS (
              SELECT FROM poolscope_data.tag_hours d
              WHERE d.host_id = c.host_id
                AND d.day = date_trunc('day', c.span_at, 'UTC'))
        OFFSET 0) c
    CROSS JOIN LATERAL poolscope_data.chunk_blocks(c.head) b
    JOIN poolscope_data.tag t ON t.tag_id BETWEEN b.first_id AND b.last_id
    JOIN LATERAL poolscope_data.chunk_tag_hours(c.head,
            substr(c.levels, b.levels_from, b.levels_length),
            substr(c.data, b.data_from, b.data_length), b.block) s
        ON s.id = t.tag_id AND s.hour = hours.hour
    UNION ALL
    SELECT h.host_id, h.host, t.pool, t.tag, s.hour,
        date_trunc('day', s.hour, 'UTC'), s.n,
        (date_part('epoch', s.first_at) * 1e6)::bigint,
        (date_part('epoch', s.last_at) * 1e6)::bigint,
        s.first_bytes, s.last_bytes, s.min_bytes, s.max_bytes, s.sum_bytes,
        s.last_outstanding
    FROM poolscope_data.host h
    CROSS JOIN LATERAL poolscope_data.fresh_tags(
        h.host_id, '-infinity', 'infinity') f
    CROSS JOIN LATERAL poolscope_data.stored_tag_hours(
        f.rows, f.kinds, f.ats) s
    JOIN poolscope_data.tag t ON t.tag_id = s.id
    WHERE s.hour BETWEEN '2000-01-01 00:00:00+00'
                     AND now() + interval '1 hour'
    UNION ALL
    SELECT h.host_id, h.host, t.pool, t.tag, s.at, d.day, n.n,
        (date_part('epoch', s.at) * 1e6)::bigint,
        (date_part('epoch', s.at) * 1e6)::bigint + 3599999999,
        s.first_bytes, s.last_bytes, s.min_bytes, s.max_bytes,
        s.mean_bytes::numeric * n.n, s.last_outstanding
    FROM poolscope_data.host h
    JOIN poolscope_data.tag_hours d ON d.host_id = h.host_id
    CROSS JOIN LATERAL poolscope_data.chunk_blocks(d.head) b
    JOIN poolscope_data.tag t
        ON t.tag_id BETWEEN b.first_id / 2 AND b.last_id / 2
    JOIN LATERAL poolscope_data.summary_tag_rows(d.head,
            substr(d.levels, b.levels_from, b.levels_length),
            substr(d.data, b.data_from, b.data_length), b.block) s
        ON s.id = t.tag_id
    CROSS JOIN LATERAL (SELECT d.snapshots[1 + date_part('hour',
        s.at AT TIME ZONE 'UTC')::integer]::bigint) n(n)
) x
GROUP BY x.host_id, x.host, x.pool, x.tag, x.hour, x.day;

CREATE OR REPLACE VIEW poolscope.counter_hour AS
SELECT x.host_id, x.host, x.counter, x.instance,
    sum(x.sum_value) / sum(x.n) AS value, x.at,
    (min(ARRAY[x.first_s, x.first_value]))[2] AS first_value,
    (max(ARRAY[x.last_s, x.last_value]))[2] AS last_value,
    min(x.min_value) AS min_value, max(x.max_value) AS max_value, x.day
FROM (
    SELECT h.host_id, h.host, t.counter, t.instance, hours.hour AS at,
        date_trunc('day', hours.hour, 'UTC') AS day, s.n::double precision, date_part('epoch', s.first_at) AS first_s,
        date_part('epoch', s.last_at) AS last_s, s.first_value, s.last_value,
        s.min_value, s.max_value, s.sum_value
    FROM poolscope_data.host h
    CROSS JOIN poolscope_data.chunk_hours() hours(hour)
    CROSS JOIN LATERAL (
        SELECT * FROM poolscope_data.counter_chunk c
        WHERE c.host_id = h.host_id
          AND c.span_at > hours.hour - interval '4 hours'
          AND c.span_at < hours.hour + interval '1 hour'
          AND c.at_from < hours.hour + interval '1 hour'
          AND c.at_to >= hours.hour
          AND NOT EXISTS (
              SELECT FROM poolscope_data.counter_hours d
              WHERE d.host_id = c.host_id
                AND d.day = date_trunc('day', c.span_at, 'UTC'))
        OFFSET 0) c
    CROSS JOIN LATERAL poolscope_data.chunk_blocks(c.head) b
    JOIN poolscope_data.counter_name t
        ON t.counter_id BETWEEN b.first_id AND b.last_id
    JOIN LATERAL poolscope_data.chunk_counter_hours(c.head,
            substr(c.levels, b.levels_from, b.levels_length),
            substr(c.data, b.data_from, b.data_length), b.block) s
        ON s.id = t.counter_id AND s.hour = hours.hour
    UNION ALL
    SELECT h.host_id, h.host, t.counter, t.instance, s.hour,
        date_trunc('day', s.hour, 'UTC'), s.n::double precision, date_part('epoch', s.first_at),
        date_part('epoch', s.last_at), s.first_value, s.last_value,
        s.min_value, s.max_value, s.sum_value
    FROM poolscope_data.host h
    CROSS JOIN LATERAL poolscope_data.fresh_counters(
        h.host_id, '-infinity', 'infinity') f
    CROSS JOIN LATERAL poolscope_data.stored_counter_hours(
        f.rows, f.kinds, f.ats) s
    JOIN poolscope_data.counter_name t ON t.counter_id = s.id
    WHERE s.hour BETWEEN '2000-01-01 00:00:00+00'
                     AND now() + interval '1 hour'
    UNION ALL
    SELECT y.host_id, y.host, y.counter, y.instance, y.at, y.day, y.n,
        date_part('epoch', y.at), date_part('epoch', y.at) + 3599,
        y.v[3], y.v[2], y.v[1], y.v[5], y.v[4] * y.n
    FROM (
        SELECT h.host_id, h.host, t.counter, t.instance, s.hour AS at, d.day,
            d.snapshots[1 + date_part('hour', s.hour AT TIME ZONE 'UTC')
                ::integer]::double precision AS n,
            array_agg(s.first_value ORDER BY s.id) AS v
        FROM poolscope_data.host h
        JOIN poolscope_data.counter_hours d ON d.host_id = h.host_id
        CROSS JOIN LATERAL poolscope_data.chunk_blocks(d.head) b
        JOIN poolscope_data.counter_name t
            ON t.counter_id BETWEEN b.first_id / 8 AND b.last_id / 8
        JOIN LATERAL poolscope_data.chunk_counter_hours(d.head,
                substr(d.levels, b.levels_from, b.levels_length),
                substr(d.data, b.data_from, b.data_length), b.block) s
            ON s.id / 8 = t.counter_id
        GROUP BY h.host_id, h.host, t.counter, t.instance, s.hour, d.day,
            d.snapshots) y
) x
GROUP BY x.host_id, x.host, x.counter, x.instance, x.at, x.day;

-- Days, for as long as they are kept: of months that are summed up from there,
-- of others from their hours.
CREATE VIEW poolscope.pool_day AS
SELECT h.host_id, h.host, t.pool, t.tag, s.at AS day, s.first_bytes,
    s.last_bytes, s.min_bytes, s.max_bytes, s.mean_bytes, s.last_outstanding
FROM poolscope_data.host h
JOIN poolscope_data.tag_days d ON d.host_id = h.host_id
CROSS JOIN LATERAL poolscope_data.chunk_blocks(d.head) b
JOIN poolscope_data.tag t
    ON t.tag_id BETWEEN b.first_id / 2 AND b.last_id / 2
JOIN LATERAL poolscope_data.summary_tag_rows(d.head,
        substr(d.levels, b.levels_from, b.levels_length),
        substr(d.data, b.data_from, b.data_length), b.block) s
    ON s.id = t.tag_id
UNION ALL
SELECT x.host_id, x.host, x.pool, x.tag, x.day,
    (array_agg(x.first_bytes ORDER BY x.hour))[1],
    (array_agg(x.last_bytes ORDER BY x.hour DESC))[1],
    min(x.min_bytes), max(x.max_bytes), round(avg(x.mean_bytes))::bigint,
    (array_agg(x.last_outstanding ORDER BY x.hour DESC))[1]
FROM poolscope.pool_hour x
WHERE NOT EXISTS (
    SELECT FROM poolscope_data.tag_days d
    WHERE d.host_id = x.host_id
      AND d.day = date_trunc('month', x.day, 'UTC'))
GROUP BY x.host_id, x.host, x.pool, x.tag, x.day;

-- ---------------------------------------------------------------- growth

-- A host's newest snapshot at or before p_at, else its first one: its n, and
-- where it is in which chunk (span_at NULL: a fresh row).
CREATE FUNCTION poolscope_data.tags_moment(
    p_host_id bigint, p_at timestamptz, OUT n bigint, OUT at timestamptz,
    OUT span_at timestamptz, OUT n_from bigint, OUT i integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    settled bigint := coalesce((SELECT s.tags_n FROM host_settle s
                                WHERE s.host_id = p_host_id), 0);
    span_last timestamptz := (
        SELECT max(c.span_at) FROM tag_chunk c
        WHERE c.host_id = p_host_id AND c.span_at <= p_at
          AND c.at_from <= p_at);
BEGIN
    -- Spans overlap where the host's interval has changed.
    SELECT x.* INTO n, at, span_at, n_from, i FROM (
        SELECT s.n, s.at, c.span_at, c.n_from, s.i FROM tag_chunk c
        CROSS JOIN LATERAL chunk_snapshots(c.head) s
        WHERE c.host_id = p_host_id AND c.span_at <= span_last
          AND c.span_at > span_last - interval '4 hours' AND s.at <= p_at
        UNION ALL
        SELECT f.n, f.at, NULL, NULL, NULL FROM fresh f
        WHERE f.host_id = p_host_id AND f.n > settled AND f.tags_kind > 0
          AND f.at <= p_at
    ) x ORDER BY x.at DESC, x.n DESC LIMIT 1;
    IF n IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT x.* INTO n, at, span_at, n_from, i FROM (
        SELECT s.n, s.at, c.span_at, c.n_from, s.i
        FROM (SELECT * FROM tag_chunk c WHERE c.host_id = p_host_id
              ORDER BY c.at_from, c.n_from LIMIT 1) c
        CROSS JOIN LATERAL chunk_snapshots(c.head) s
        UNION ALL
        SELECT f.n, f.at, NULL, NULL, NULL FROM fresh f
        WHERE f.host_id = p_host_id AND f.n > settled AND f.tags_kind > 0
    ) x ORDER BY x.at, x.n LIMIT 1;
END $$;

-- The tags of a host at p_at, or at its first snapshot if that is younger.
CREATE FUNCTION poolscope_data.tags_then(p_host_id bigint, p_at timestamptz)
RETURNS TABLE (tag_id integer, bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 3000
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    m record := tags_moment(p_host_id, p_at);
BEGIN
    IF m.span_at IS NULL THEN
        RETURN QUERY
        SELECT s.id, s.bytes FROM fresh_tags(p_host_id, m.at, m.at) f
        CROSS JOIN LATERAL stored_tags_state(f.rows, f.kinds) s;
    ELSE
        RETURN QUERY
        SELECT s.id, s.bytes FROM tag_chunk c
        CROSS JOIN LATERAL chunk_state(c.head, c.levels, c.data, m.i) s
        WHERE c.host_id = p_host_id AND c.span_at = m.span_at
          AND c.n_from = m.n_from;
    END IF;
END $$;

-- Every tag now against the same tag over_last ago, over all hosts with a
-- snapshot since then. "Now" is the newest snapshot of the fleet, so that an
-- imported history answers too; a host's own end is its newest snapshot, its
-- start the newest one at or before the moment over_last ago (a younger
-- host's first). A tag that an end does not have counts as 0 bytes there.
CREATE OR REPLACE FUNCTION poolscope.fleet_growth(over_last interval)
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
    SELECT t.pool, t.tag, t.driver, g.hosts, g.growing_hosts,
        g.growth_bytes::bigint, g.bytes::bigint
    FROM (
        SELECT x.tag_id, count(x.end_bytes) AS hosts,
            count(*) FILTER (WHERE x.growth > 0) AS growing_hosts,
            sum(x.growth) AS growth_bytes,
            coalesce(sum(x.end_bytes), 0) AS bytes
        FROM ingest_cursor c
        CROSS JOIN LATERAL (
            SELECT tag_id, e.bytes AS end_bytes,
                coalesce(e.bytes, 0) - coalesce(b.bytes, 0) AS growth
            FROM tags_now(c.host_id, c.tags_keyframe_n, c.tags_n,
                          c.tags_at) e
            FULL JOIN tags_then(c.host_id, begin_at) b USING (tag_id)) x
        WHERE c.tags_at >= begin_at
        GROUP BY x.tag_id
    ) g JOIN tag t ON t.tag_id = g.tag_id;
END $$;

-- The same of one host, by its own newest snapshot: since is the time of the
-- snapshot that it is compared with.
CREATE FUNCTION poolscope.host_growth(host text, over_last interval)
RETURNS TABLE (pool text, tag text, driver text, growth_bytes bigint,
               bytes bigint, since timestamptz, at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c ingest_cursor;
    m record;
BEGIN
    SELECT x.* INTO c FROM ingest_cursor x JOIN host h USING (host_id)
    WHERE h.host = host_growth.host;
    m := tags_moment(c.host_id, c.tags_at - over_last);
    RETURN QUERY
    SELECT t.pool, t.tag, t.driver,
        coalesce(e.bytes, 0) - coalesce(b.bytes, 0), e.bytes, m.at, c.tags_at
    FROM tags_now(c.host_id, c.tags_keyframe_n, c.tags_n, c.tags_at) e
    FULL JOIN tags_then(c.host_id, c.tags_at - over_last) b USING (tag_id)
    JOIN tag t USING (tag_id);
END $$;

-- --------------------------------------------------------------- storage

-- The slots of fresh rows: one is present, those before it wait until all in
-- them has been settled for an hour. rows is an estimate.
CREATE VIEW poolscope.storage_slot AS
SELECT s.slot,
    CASE WHEN s.present THEN 'present' WHEN s.opened_at IS NULL THEN 'empty'
         ELSE 'waiting' END AS state,
    s.opened_at, s.closed_at, pg_stat_get_live_tuples(c.oid) AS rows,
    pg_total_relation_size(c.oid) AS bytes
FROM poolscope_data.fresh_slot s
JOIN pg_inherits i ON i.inhparent = 'poolscope_data.fresh'::regclass
JOIN pg_class c ON c.oid = i.inhrelid AND c.relname = 'fresh_' || s.slot;

DROP FUNCTION poolscope_data.tags_keyframe(bigint, bigint),
    poolscope_data.counters_keyframe(bigint, bigint),
    poolscope_data.tags_state(bigint, bigint, bigint),
    poolscope_data.counters_state(bigint, bigint, bigint),
    poolscope_data.tags_hour(bigint, timestamptz),
    poolscope_data.counters_hour(bigint, timestamptz),
    poolscope_data.live_from(bigint),
    poolscope_data.live_hours(bigint);

GRANT SELECT ON poolscope.storage_slot, poolscope.pool_day
    TO poolscope_reader, poolscope_writer;
GRANT EXECUTE ON FUNCTION
    poolscope.host_growth(text, interval),
    poolscope_data.fresh_tags(bigint, timestamptz, timestamptz),
    poolscope_data.fresh_counters(bigint, timestamptz, timestamptz),
    poolscope_data.tags_now(bigint, bigint, bigint, timestamptz),
    poolscope_data.counters_now(bigint, bigint, bigint, timestamptz),
    poolscope_data.chunk_hours()
    TO poolscope_reader, poolscope_writer;
