-- Summaries: hours for a quarter, days for two years. Each is a chunk whose
-- snapshots are the hours of a day, or the days of a month, with two entries a
-- tag (collector/summary.h). Nothing is ever added to one: when anything of its
-- day has come late, it goes in the same transaction, its hours are read from
-- the chunks of samples again, and the worker makes it anew.

CREATE TABLE poolscope_data.tag_hours (
    host_id bigint NOT NULL,
    day timestamptz NOT NULL,
    snapshots integer[] NOT NULL,   -- samples in each of the 24 hours
    head bytea NOT NULL,
    levels bytea NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (host_id, day)
) PARTITION BY RANGE (day);
ALTER TABLE poolscope_data.tag_hours ALTER head SET STORAGE MAIN,
    ALTER levels SET STORAGE EXTERNAL, ALTER data SET STORAGE EXTERNAL;
CREATE TABLE poolscope_data.counter_hours
    (LIKE poolscope_data.tag_hours INCLUDING ALL) PARTITION BY RANGE (day);
CREATE TABLE poolscope_data.tag_hours_default
    PARTITION OF poolscope_data.tag_hours DEFAULT;
CREATE TABLE poolscope_data.counter_hours_default
    PARTITION OF poolscope_data.counter_hours DEFAULT;

-- snapshots: samples of each day of the month.
CREATE TABLE poolscope_data.tag_days
    (LIKE poolscope_data.tag_hours INCLUDING ALL) PARTITION BY RANGE (day);
CREATE TABLE poolscope_data.counter_days
    (LIKE poolscope_data.tag_hours INCLUDING ALL) PARTITION BY RANGE (day);
CREATE TABLE poolscope_data.tag_days_default
    PARTITION OF poolscope_data.tag_days DEFAULT;
CREATE TABLE poolscope_data.counter_days_default
    PARTITION OF poolscope_data.counter_days DEFAULT;

INSERT INTO poolscope_data.setting (name, value, meaning) VALUES
    ('retention_days', '2 years', 'how long daily summaries are kept');
ALTER TABLE poolscope_data.partitioned
    DROP CONSTRAINT partitioned_step_check,
    ADD CHECK (step IN ('day', 'week', 'month'));
INSERT INTO poolscope_data.partitioned VALUES
    ('tag_hours', 'day', 'week', 'retention_hours'),
    ('counter_hours', 'day', 'week', 'retention_hours'),
    ('tag_days', 'day', 'month', 'retention_days'),
    ('counter_days', 'day', 'month', 'retention_days');

-- What is to be made, or made anew: of a day (step hour) or, by its first day,
-- of a month (step day).
CREATE TABLE poolscope_data.summary_due (
    host_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('tags', 'counters')),
    step text NOT NULL CHECK (step IN ('hour', 'day')),
    from_at timestamptz NOT NULL,
    retry_at timestamptz,           -- it failed: not before
    PRIMARY KEY (host_id, kind, step, from_at)
);
CREATE INDEX ON poolscope_data.summary_due (step, from_at, host_id);

-- May a day be summed up, when more of it comes? Not if the summary that is
-- there knows of samples whose chunks are gone: it could not be made anew as a
-- whole. (An hour that the first version summed up counts as one sample.)
CREATE FUNCTION poolscope_data.summary_may_go(
    p_host_id bigint, p_kind text, p_day timestamptz)
RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    told integer[];
    samples bigint;
BEGIN
    IF p_kind = 'tags' THEN
        SELECT h.snapshots INTO told FROM tag_hours h
        WHERE h.host_id = p_host_id AND h.day = p_day;
    ELSE
        SELECT h.snapshots INTO told FROM counter_hours h
        WHERE h.host_id = p_host_id AND h.day = p_day;
    END IF;
    IF told IS NULL THEN
        RETURN true;
    ELSIF p_day + interval '1 day'
          <= now() - setting_interval('retention_points') THEN
        RETURN false;
    ELSIF p_kind = 'tags' THEN
        SELECT sum(c.snapshots) INTO samples FROM tag_chunk c
        WHERE c.host_id = p_host_id AND c.span_at >= p_day
          AND c.span_at < p_day + interval '1 day';
    ELSE
        SELECT sum(c.snapshots) INTO samples FROM counter_chunk c
        WHERE c.host_id = p_host_id AND c.span_at >= p_day
          AND c.span_at < p_day + interval '1 day';
    END IF;
    RETURN coalesce(samples, 0)
        >= (SELECT coalesce(sum(n), 0) FROM unnest(told) n WHERE n > 1);
END $$;

-- Chunks of these spans are about to be stored, in this transaction. Days that
-- are older than all that is kept are let be.
CREATE FUNCTION poolscope_data.summary_touch(
    p_host_id bigint, p_kind text, p_span_ats timestamptz[])
RETURNS void LANGUAGE plpgsql
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    days timestamptz[] := ARRAY(
        SELECT DISTINCT date_trunc('day', s, 'UTC') FROM unnest(p_span_ats) s
        WHERE in_range(s) AND s > now() - greatest(interval '3 days',
            setting_interval('retention_points'),
            setting_interval('retention_hours')));
BEGIN
    days := ARRAY(SELECT d FROM unnest(days) d
                  WHERE summary_may_go(p_host_id, p_kind, d));
    INSERT INTO summary_due (host_id, kind, step, from_at)
    SELECT p_host_id, p_kind, 'hour', d FROM unnest(days) d
    ON CONFLICT DO NOTHING;
    IF p_kind = 'tags' THEN
        DELETE FROM tag_hours WHERE host_id = p_host_id AND day = ANY (days);
    ELSE
        DELETE FROM counter_hours
        WHERE host_id = p_host_id AND day = ANY (days);
    END IF;
END $$;

-- Days and months that are over and settled: a chunk comes within hours of its
-- span's end. By the host's own newest sample too, for history that is loaded
-- in quick motion. A month waits for its days. The fleet's newest sample says
-- where in the index to look, among what is due of a large fleet.
CREATE FUNCTION poolscope_api.summary_next(p_max integer)
RETURNS TABLE (host_id bigint, kind text, step text, from_at timestamptz,
               steps integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    day_over CONSTANT interval := interval '1 day 8 hours';
    month_over CONSTANT interval := interval '33 days';
    newest timestamptz := greatest(now(), (
        SELECT max(c.last_at) FROM ingest_cursor c WHERE in_range(c.last_at)));
BEGIN
    RETURN QUERY
    SELECT x.* FROM (
        (SELECT d.host_id, d.kind, d.step, d.from_at, 24
         FROM summary_due d JOIN ingest_cursor c USING (host_id)
         WHERE d.step = 'hour'
           AND d.from_at <= newest - day_over
           AND (d.retry_at IS NULL OR d.retry_at <= now())
           AND d.from_at <= greatest(now(), CASE WHEN in_range(c.last_at)
                                            THEN c.last_at END) - day_over
         ORDER BY d.from_at, d.host_id LIMIT p_max)
        UNION ALL
        (SELECT d.host_id, d.kind, d.step, d.from_at, extract(day FROM
             d.from_at AT TIME ZONE 'UTC' + interval '1 month - 1 day')::integer
         FROM summary_due d JOIN ingest_cursor c USING (host_id)
         WHERE d.step = 'day'
           AND d.from_at <= newest - month_over
           AND (d.retry_at IS NULL OR d.retry_at <= now())
           AND d.from_at <= greatest(now(), CASE WHEN in_range(c.last_at)
                                            THEN c.last_at END) - month_over
           AND NOT EXISTS (
               SELECT FROM summary_due o
               WHERE o.host_id = d.host_id AND o.kind = d.kind
                 AND o.step = 'hour' AND o.from_at >= d.from_at
                 AND o.from_at < d.from_at + interval '31 days')
         ORDER BY d.from_at, d.host_id LIMIT p_max)
    ) x (host_id, kind, step, from_at, steps)
    ORDER BY x.from_at, x.host_id LIMIT p_max;
END $$;

-- What a summary is made from: a day from chunks of samples, a month from its
-- days. snapshots: as that table has it; n_to tells chunks from those that
-- come later.
CREATE FUNCTION poolscope_api.summary_parts(
    p_host_id bigint, p_kind text, p_step text, p_from timestamptz)
RETURNS TABLE (n_to bigint, snapshots integer[], head bytea, levels bytea,
               data bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    IF p_step = 'hour' THEN
        RETURN QUERY EXECUTE format(
            'SELECT n_to, NULL::integer[], head, levels, data FROM %I '
            'WHERE host_id = $1 AND span_at >= $2 AND span_at < $2 + '
            'interval ''1 day'' ORDER BY n_to',
            CASE p_kind WHEN 'tags' THEN 'tag_chunk' ELSE 'counter_chunk' END)
        USING p_host_id, p_from;
    ELSE
        RETURN QUERY EXECUTE format(
            'SELECT extract(epoch FROM day)::bigint, snapshots, head, levels, '
            'data FROM %I WHERE host_id = $1 AND day >= $2 AND day < '
            '($2 AT TIME ZONE ''UTC'' + interval ''1 month'') '
            'AT TIME ZONE ''UTC'' ORDER BY day',
            CASE p_kind WHEN 'tags' THEN 'tag_hours' ELSE 'counter_hours' END)
        USING p_host_id, p_from;
    END IF;
END $$;

-- Store a summary made from these parts (the sum of their n_to); without one
-- (NULL) there was nothing to sum up. False, and nothing done, if the parts
-- are others by now. A month is not replaced by one that lacks days of it: their
-- hours are gone. One statement, so it is done as a whole or not.
CREATE FUNCTION poolscope_api.summary_store(
    p_host_id bigint, p_kind text, p_step text, p_from timestamptz,
    p_parts integer, p_sum_n_to numeric, p_snapshots integer[],
    p_head bytea, p_levels bytea, p_data bytea)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    is_same boolean;
BEGIN
    -- settle_store() locks it too.
    PERFORM FROM host_settle WHERE host_id = p_host_id FOR UPDATE;
    SELECT count(*) = p_parts AND coalesce(sum(x.n_to), 0) = p_sum_n_to
    INTO is_same
    FROM summary_parts_n(p_host_id, p_kind, p_step, p_from) x;
    IF NOT is_same THEN
        RETURN false;
    END IF;
    IF p_head IS NOT NULL THEN
        EXECUTE format(
            'INSERT INTO %I AS t VALUES ($1, $2, $3, $4, $5, $6) '
            'ON CONFLICT (host_id, day) DO UPDATE SET '
            'snapshots = excluded.snapshots, head = excluded.head, '
            'levels = excluded.levels, data = excluded.data '
            'WHERE NOT EXISTS (SELECT '
            '  FROM unnest(t.snapshots, excluded.snapshots) AS x(old, new) '
            '  WHERE x.old > 0 AND coalesce(x.new, 0) = 0)',
            CASE p_kind WHEN 'tags' THEN 'tag_' ELSE 'counter_' END
            || p_step || 's')
        USING p_host_id, p_from, p_snapshots, p_head, p_levels, p_data;
    END IF;
    DELETE FROM summary_due
    WHERE host_id = p_host_id AND kind = p_kind AND step = p_step
      AND from_at = p_from;
    INSERT INTO summary_due (host_id, kind, step, from_at)
    SELECT p_host_id, p_kind, 'day', date_trunc('month', p_from, 'UTC')
    WHERE p_step = 'hour' AND p_head IS NOT NULL ON CONFLICT DO NOTHING;
    RETURN true;
END $$;

-- n_to of summary_parts(), without their bytes.
CREATE FUNCTION poolscope_data.summary_parts_n(
    p_host_id bigint, p_kind text, p_step text, p_from timestamptz)
RETURNS TABLE (n_to bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        CASE p_step WHEN 'hour' THEN
            'SELECT n_to FROM %I WHERE host_id = $1 AND span_at >= $2 '
            'AND span_at < $2 + interval ''1 day'''
        ELSE
            'SELECT extract(epoch FROM day)::bigint FROM %I '
            'WHERE host_id = $1 AND day >= $2 AND day < '
            '($2 AT TIME ZONE ''UTC'' + interval ''1 month'') '
            'AT TIME ZONE ''UTC'''
        END,
        CASE p_kind WHEN 'tags' THEN 'tag_' ELSE 'counter_' END
        || CASE p_step WHEN 'hour' THEN 'chunk' ELSE 'hours' END)
    USING p_host_id, p_from;
END $$;

-- A summary cannot be made: it is tried again a day later. What it is made from
-- is kept for a week more.
CREATE FUNCTION poolscope_api.summary_failed(
    p_host_id bigint, p_kind text, p_step text, p_from timestamptz)
RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    UPDATE summary_due SET retry_at = now() + interval '1 day'
    WHERE host_id = p_host_id AND kind = p_kind AND step = p_step
      AND from_at = p_from
$$;

-- Is anything of a partition not in summaries yet? (Then it stays.) What failed
-- does not keep those of a whole fleet for ever.
CREATE FUNCTION poolscope_data.partition_waits(
    p_parent text, p_from timestamptz, p_to timestamptz)
RETURNS boolean LANGUAGE sql STABLE
SET search_path = poolscope_data, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM summary_due d
        WHERE d.kind = CASE WHEN p_parent LIKE 'tag%' THEN 'tags'
                            ELSE 'counters' END
          AND CASE WHEN p_parent LIKE '%\_chunk'
              THEN d.step = 'hour' AND d.from_at >= p_from
                   AND d.from_at < p_to
              WHEN p_parent LIKE '%\_hours'
              THEN d.step = 'day' AND d.from_at < p_to
                   AND d.from_at + interval '31 days' > p_from
              ELSE false END
          AND (d.retry_at IS NULL OR p_to > now() - interval '7 days' - (
              SELECT setting_interval(k.retention) FROM partitioned k
              WHERE k.parent = p_parent)))
$$;

-- Drop partitions past retention, oldest first.
CREATE OR REPLACE FUNCTION poolscope_data.partitions_drop() RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    old record;
    dropped integer := 0;
BEGIN
    FOR old IN
        SELECT p.parent, p.child, p.from_at, p.to_at
        FROM poolscope_data.partition p
        JOIN poolscope_data.partitioned k USING (parent)
        WHERE p.to_at <= now() - poolscope_data.setting_interval(k.retention)
        ORDER BY p.from_at
    LOOP
        CONTINUE WHEN poolscope_data.partition_waits(
            old.parent, old.from_at, old.to_at);
        BEGIN
            EXECUTE format('DROP TABLE poolscope_data.%I', old.child);
            DELETE FROM poolscope_data.partition WHERE child = old.child;
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
    END LOOP;
    RETURN dropped;
END $$;

GRANT EXECUTE ON FUNCTION
    poolscope_api.summary_next(integer),
    poolscope_api.summary_parts(bigint, text, text, timestamptz),
    poolscope_api.summary_store(bigint, text, text, timestamptz, integer,
        numeric, integer[], bytea, bytea, bytea),
    poolscope_api.summary_failed(bigint, text, text, timestamptz)
    TO poolscope_writer;

SELECT poolscope_data.partitions_ahead();
