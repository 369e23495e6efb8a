-- How long each kind of data is kept, what it takes, and what it will take.

CREATE OR REPLACE FUNCTION poolscope_api.setting_set(p_name text, p_value text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    IF p_name LIKE 'retention\_%' THEN
        IF p_value::interval < interval '1 hour'
           OR p_value::interval > interval '100 years' THEN
            RAISE EXCEPTION '% must be at least one hour, at most 100 years',
                p_name;
        END IF;
    ELSIF p_name LIKE 'max\_%' THEN
        PERFORM p_value::bigint;
    ELSIF p_name = 'settle_span' THEN
        IF p_value::interval NOT BETWEEN interval '1 minute'
                                     AND interval '1 hour'
           OR mod(3600000000, (extract(epoch FROM p_value::interval)
                               * 1000000)::bigint) <> 0 THEN
            RAISE EXCEPTION '% must be a whole part of an hour, at least one '
                'minute', p_name;
        END IF;
    ELSIF p_name = 'ca_sha256' THEN
        IF p_value !~ '^[0-9a-f]{64}$' THEN
            RAISE EXCEPTION '% must be 64 hexadecimal digits', p_name;
        END IF;
    ELSE
        RAISE EXCEPTION 'there is no setting "%"', p_name;
    END IF;
    UPDATE setting SET value = p_value WHERE name = p_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no setting "%"', p_name;
    END IF;
END $$;

-- Which tier a table's bytes belong to.
CREATE FUNCTION poolscope_data.tier_of(p_table text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_table ~ '^fresh_[0-9]' THEN 'fresh'
                WHEN p_table ~ '^(tag|counter)_chunk_' THEN 'samples'
                WHEN p_table ~ '^(tag|counter)_hours_' THEN 'hours'
                WHEN p_table ~ '^(tag|counter)_days_' THEN 'days'
                WHEN p_table ~ '^event_' THEN 'events'
                ELSE 'other' END
$$;

-- What the newest whole partition of a tier (else the newest that has
-- anything) takes, and of how many days of one host, all together.
CREATE FUNCTION poolscope_data.tier_rate(
    p_tier text, OUT bytes bigint, OUT host_days double precision)
LANGUAGE plpgsql STABLE
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    tags text := CASE p_tier WHEN 'samples' THEN 'tag_chunk'
                             ELSE 'tag_' || p_tier END;
    counters text := replace(tags, 'tag_', 'counter_');
    amount text := CASE p_tier
        WHEN 'samples' THEN
            'sum(extract(epoch FROM at_to - at_from) * snapshots '
            '    / greatest(snapshots - 1, 1)) / 86400'
        WHEN 'hours' THEN 'count(*)'
        ELSE 'sum((SELECT count(*) FROM unnest(snapshots) s WHERE s > 0))' END;
    p record;
BEGIN
    FOR p IN
        SELECT x.child, x.from_at FROM partition x
        WHERE x.parent = tags AND x.from_at <= now()
        ORDER BY x.to_at <= now() - interval '8 hours' DESC, x.from_at DESC
    LOOP
        EXECUTE format('SELECT %s FROM %I', amount, p.child) INTO host_days;
        IF host_days > 0 THEN
            bytes := pg_total_relation_size(p.child::regclass) + coalesce(
                (SELECT pg_total_relation_size(x.child::regclass)
                 FROM partition x
                 WHERE x.parent = counters AND x.from_at = p.from_at), 0);
            RETURN;
        END IF;
    END LOOP;
    host_days := NULL;
END $$;

-- One row a tier: bytes now; how long it is kept; what one host adds in a day.
-- NULL: nothing can be said yet, or it does not grow with days.
CREATE FUNCTION poolscope_api.capacity()
RETURNS TABLE (tier text, bytes bigint, kept interval,
               host_day_bytes double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.tier, coalesce(s.bytes, 0)::bigint, setting_interval(t.setting),
        CASE WHEN t.tier IN ('samples', 'hours', 'days')
             THEN (SELECT r.bytes / r.host_days FROM tier_rate(t.tier) r)
             WHEN t.tier = 'events' AND e.days > 0
             THEN s.bytes / e.days END
    FROM (VALUES (1, 'fresh', NULL), (2, 'samples', 'retention_points'),
                 (3, 'hours', 'retention_hours'),
                 (4, 'days', 'retention_days'),
                 (5, 'events', 'retention_events'), (6, 'other', NULL))
         AS t(i, tier, setting)
    LEFT JOIN (
        SELECT tier_of(c.relname) AS tier,
            sum(pg_total_relation_size(c.oid)) AS bytes
        FROM pg_class c
        WHERE c.relnamespace = 'poolscope_data'::regnamespace
          AND c.relkind = 'r'
        GROUP BY 1) s USING (tier)
    CROSS JOIN (
        SELECT sum(extract(epoch FROM least(now() - c.first_at,
                   setting_interval('retention_events'))))::double precision
               / 86400 AS days
        FROM ingest_cursor c) e
    ORDER BY t.i;
END $$;

GRANT EXECUTE ON FUNCTION poolscope_api.capacity() TO poolscope_writer;
