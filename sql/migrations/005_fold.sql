-- Samples are stored as changes; these functions put states and hours
-- together again. A keyframe holds everything: what it does not name is gone.
-- Rows are folded in the order of n, which is the order of arrival.

-- Newest keyframe of a host at or before batch p_n.
CREATE FUNCTION poolscope_data.tags_keyframe(p_host_id bigint, p_n bigint)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT n FROM poolscope_data.snapshot
    WHERE host_id = p_host_id AND keyframe AND n <= p_n
    ORDER BY n DESC LIMIT 1
$$;

CREATE FUNCTION poolscope_data.counters_keyframe(p_host_id bigint, p_n bigint)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT n FROM poolscope_data.counter_sample
    WHERE host_id = p_host_id AND keyframe AND n <= p_n
    ORDER BY n DESC LIMIT 1
$$;

-- The tags of a host as batch p_to left them; p_from is a keyframe.
CREATE FUNCTION poolscope_data.tags_state(p_host_id bigint, p_from bigint,
                                          p_to bigint)
RETURNS TABLE (tag_id integer, allocs bigint, frees bigint,
               outstanding bigint, bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.tag_id, t.allocs, t.frees, t.outstanding, t.bytes
    FROM (
        SELECT DISTINCT ON (u.tag_id) u.*
        FROM (
            SELECT s.n, true AS present, unnest(s.tag_ids) AS tag_id,
                unnest(s.allocs) AS allocs, unnest(s.frees) AS frees,
                unnest(s.outstanding) AS outstanding, unnest(s.bytes) AS bytes
            FROM snapshot s
            WHERE s.host_id = p_host_id AND s.n BETWEEN p_from AND p_to
            UNION ALL
            SELECT s.n, false, unnest(s.gone), NULL, NULL, NULL, NULL
            FROM snapshot s
            WHERE s.host_id = p_host_id AND s.n > p_from AND s.n <= p_to
              AND s.gone <> '{}'
        ) u
        ORDER BY u.tag_id, u.n DESC
    ) t
    WHERE t.present;
END $$;

CREATE FUNCTION poolscope_data.counters_state(p_host_id bigint, p_from bigint,
                                              p_to bigint)
RETURNS TABLE (counter_id integer, value double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.counter_id, t.value
    FROM (
        SELECT DISTINCT ON (u.counter_id) u.*
        FROM (
            SELECT s.n, true AS present, unnest(s.counter_ids) AS counter_id,
                unnest(s.counter_values) AS value
            FROM counter_sample s
            WHERE s.host_id = p_host_id AND s.n BETWEEN p_from AND p_to
            UNION ALL
            SELECT s.n, false, unnest(s.gone), NULL
            FROM counter_sample s
            WHERE s.host_id = p_host_id AND s.n > p_from AND s.n <= p_to
              AND s.gone <> '{}'
        ) u
        ORDER BY u.counter_id, u.n DESC
    ) t
    WHERE t.present;
END $$;

-- One hour of a host: statistics over the snapshots that have the tag.
--
-- The hour's snapshots are numbered 1…K. A change holds from snapshot k on
-- (one stored before the hour, or at an impossible time in between, from the
-- next one on) until the next change of that tag, the next keyframe or the
-- hour's end; that many snapshots is its weight. What is gone has no weight.
CREATE FUNCTION poolscope_data.tags_hour(p_host_id bigint, p_hour timestamptz)
RETURNS TABLE (tag_id integer, first_bytes bigint, last_bytes bigint,
               min_bytes bigint, max_bytes bigint, mean_bytes bigint,
               last_outstanding bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    n_first bigint;
    n_last bigint;
BEGIN
    SELECT min(s.n), max(s.n) INTO n_first, n_last FROM snapshot s
    WHERE s.host_id = p_host_id
      AND s.at >= p_hour AND s.at < p_hour + interval '1 hour';
    n_first := coalesce(tags_keyframe(p_host_id, n_first),
        (SELECT min(s.n) FROM snapshot s WHERE s.host_id = p_host_id
         AND s.keyframe AND s.n BETWEEN n_first AND n_last));

    RETURN QUERY
    WITH rows AS MATERIALIZED (
        SELECT s.n, s.tag_ids, s.bytes, s.outstanding, s.gone,
            count(*) FILTER (WHERE s.keyframe) OVER w AS part,
            count(*) FILTER (WHERE x.inside) OVER w
                + CASE WHEN x.inside THEN 0 ELSE 1 END AS k
        FROM snapshot s
        CROSS JOIN LATERAL (
            SELECT s.at >= p_hour
                AND s.at < p_hour + interval '1 hour' AS inside) x
        WHERE s.host_id = p_host_id AND s.n BETWEEN n_first AND n_last
        WINDOW w AS (ORDER BY s.n)
    ), parts AS (
        SELECT part, lead(min(k), 1, (SELECT max(k) + 1 FROM rows))
            OVER (ORDER BY part) AS k_end
        FROM rows GROUP BY part
    ), changes AS (
        SELECT n, part, k, true AS present, unnest(tag_ids) AS tag_id,
            unnest(bytes) AS bytes, unnest(outstanding) AS outstanding
        FROM rows
        UNION ALL
        SELECT n, part, k, false, unnest(gone), NULL, NULL FROM rows
        WHERE gone <> '{}'
    ), spans AS (
        SELECT c.tag_id, c.present, c.bytes, c.outstanding, c.k,
            lead(c.k, 1, p.k_end)
                OVER (PARTITION BY c.tag_id, c.part ORDER BY c.n) - c.k AS w
        FROM changes c JOIN parts p USING (part)
    )
    SELECT s.tag_id,
        (array_agg(s.bytes ORDER BY s.k))[1],
        (array_agg(s.bytes ORDER BY s.k DESC))[1],
        min(s.bytes), max(s.bytes),
        round(sum(s.bytes::numeric * s.w) / sum(s.w))::bigint,
        (array_agg(s.outstanding ORDER BY s.k DESC))[1]
    FROM spans s
    WHERE s.present AND s.w > 0
    GROUP BY s.tag_id;
END $$;

-- The same for counters.
CREATE FUNCTION poolscope_data.counters_hour(p_host_id bigint,
                                             p_hour timestamptz)
RETURNS TABLE (counter_id integer, first_value double precision,
               last_value double precision, min_value double precision,
               max_value double precision, mean_value double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    n_first bigint;
    n_last bigint;
BEGIN
    SELECT min(s.n), max(s.n) INTO n_first, n_last FROM counter_sample s
    WHERE s.host_id = p_host_id
      AND s.at >= p_hour AND s.at < p_hour + interval '1 hour';
    n_first := coalesce(counters_keyframe(p_host_id, n_first),
        (SELECT min(s.n) FROM counter_sample s WHERE s.host_id = p_host_id
         AND s.keyframe AND s.n BETWEEN n_first AND n_last));

    RETURN QUERY
    WITH rows AS MATERIALIZED (
        SELECT s.n, s.counter_ids, s.counter_values, s.gone,
            count(*) FILTER (WHERE s.keyframe) OVER w AS part,
            count(*) FILTER (WHERE x.inside) OVER w
                + CASE WHEN x.inside THEN 0 ELSE 1 END AS k
        FROM counter_sample s
        CROSS JOIN LATERAL (
            SELECT s.at >= p_hour
                AND s.at < p_hour + interval '1 hour' AS inside) x
        WHERE s.host_id = p_host_id AND s.n BETWEEN n_first AND n_last
        WINDOW w AS (ORDER BY s.n)
    ), parts AS (
        SELECT part, lead(min(k), 1, (SELECT max(k) + 1 FROM rows))
            OVER (ORDER BY part) AS k_end
        FROM rows GROUP BY part
    ), changes AS (
        SELECT n, part, k, true AS present, unnest(counter_ids) AS counter_id,
            unnest(counter_values) AS value
        FROM rows
        UNION ALL
        SELECT n, part, k, false, unnest(gone), NULL FROM rows
        WHERE gone <> '{}'
    ), spans AS (
        SELECT c.counter_id, c.present, c.value, c.k,
            lead(c.k, 1, p.k_end)
                OVER (PARTITION BY c.counter_id, c.part ORDER BY c.n) - c.k
                AS w
        FROM changes c JOIN parts p USING (part)
    )
    SELECT s.counter_id,
        (array_agg(s.value ORDER BY s.k))[1],
        (array_agg(s.value ORDER BY s.k DESC))[1],
        min(s.value), max(s.value), sum(s.value * s.w) / sum(s.w)
    FROM spans s
    WHERE s.present AND s.w > 0
    GROUP BY s.counter_id;
END $$;

-- The hour of the oldest row of a host that is not in summaries; NULL: none.
-- Summaries hold the hours before it, live_hours() are the others.
CREATE FUNCTION poolscope_data.live_from(p_host_id bigint)
RETURNS timestamptz LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    done bigint := coalesce((SELECT n FROM rollup_position
                             WHERE host_id = p_host_id), 0);
BEGIN
    RETURN date_trunc('hour', least(
        (SELECT at FROM snapshot WHERE host_id = p_host_id AND n > done
         AND in_range(at) ORDER BY n LIMIT 1),
        (SELECT at FROM counter_sample WHERE host_id = p_host_id AND n > done
         AND in_range(at) ORDER BY n LIMIT 1)), 'UTC');
END $$;

CREATE FUNCTION poolscope_data.live_hours(p_host_id bigint)
RETURNS TABLE (hour timestamptz) LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    hour := live_from(p_host_id);
    WHILE hour IS NOT NULL LOOP
        RETURN NEXT;
        hour := date_trunc('hour', least(
            (SELECT at FROM snapshot WHERE host_id = p_host_id
             AND at >= hour + interval '1 hour' AND in_range(at)
             ORDER BY at LIMIT 1),
            (SELECT at FROM counter_sample WHERE host_id = p_host_id
             AND at >= hour + interval '1 hour' AND in_range(at)
             ORDER BY at LIMIT 1)), 'UTC');
    END LOOP;
END $$;
