-- Partitions by time: made ahead, dropped when past retention. Each table has
-- a default partition, so that no row is ever refused for its time.

CREATE TABLE poolscope_data.partitioned (
    parent text PRIMARY KEY,
    at_column text NOT NULL,
    step text NOT NULL CHECK (step IN ('day', 'week')),
    retention text NOT NULL         -- name of the setting
);
INSERT INTO poolscope_data.partitioned VALUES
    ('snapshot', 'at', 'day', 'retention_points'),
    ('counter_sample', 'at', 'day', 'retention_points'),
    ('other_batch', 'at', 'day', 'retention_points'),
    ('event', 'at', 'week', 'retention_events'),
    ('pool_summary', 'hour', 'week', 'retention_hours'),
    ('counter_summary', 'hour', 'week', 'retention_hours');

CREATE TABLE poolscope_data.partition (
    parent text NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL,
    child text NOT NULL UNIQUE,
    PRIMARY KEY (parent, from_at)
);

CREATE TABLE poolscope_data.snapshot_default
    PARTITION OF poolscope_data.snapshot DEFAULT;
CREATE TABLE poolscope_data.counter_sample_default
    PARTITION OF poolscope_data.counter_sample DEFAULT;
CREATE TABLE poolscope_data.other_batch_default
    PARTITION OF poolscope_data.other_batch DEFAULT;
CREATE TABLE poolscope_data.event_default
    PARTITION OF poolscope_data.event DEFAULT;
CREATE TABLE poolscope_data.pool_summary_default
    PARTITION OF poolscope_data.pool_summary DEFAULT;
CREATE TABLE poolscope_data.counter_summary_default
    PARTITION OF poolscope_data.counter_summary DEFAULT;

CREATE FUNCTION poolscope_data.setting_interval(p_name text) RETURNS interval
LANGUAGE sql STABLE AS $$
    SELECT value::interval FROM poolscope_data.setting WHERE name = p_name
$$;

-- Times that count as possible; others go to the default partition.
CREATE FUNCTION poolscope_data.in_range(p_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT p_at >= '2000-01-01 00:00:00+00' AND p_at <= now() + '1 day'
$$;

-- Make the partition of p_parent that holds p_at, with the rows that wait for
-- it in the default partition. ATTACH takes no lock that ingest waits for,
-- except on the default partition. False: there is one.
CREATE FUNCTION poolscope_data.partition_make(p_parent text, p_at timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    kind poolscope_data.partitioned;
    bound_from timestamptz;
    bound_to timestamptz;
    child text;
BEGIN
    SELECT * INTO STRICT kind
    FROM poolscope_data.partitioned WHERE parent = p_parent;
    bound_from := date_trunc(kind.step, p_at, 'UTC');
    bound_to := (bound_from AT TIME ZONE 'UTC' + ('1 ' || kind.step)::interval)
                AT TIME ZONE 'UTC';
    child := p_parent || to_char(bound_from AT TIME ZONE 'UTC', '_YYYYMMDD');
    PERFORM FROM poolscope_data.partition
    WHERE parent = p_parent AND from_at = bound_from;
    IF FOUND THEN
        RETURN false;
    END IF;

    EXECUTE format('LOCK TABLE poolscope_data.%I IN ACCESS EXCLUSIVE MODE',
                   p_parent || '_default');
    EXECUTE format('CREATE TABLE poolscope_data.%I '
                   '(LIKE poolscope_data.%I INCLUDING ALL)', child, p_parent);
    EXECUTE format('WITH moved AS (DELETE FROM poolscope_data.%1$I '
                   'WHERE %2$I >= $1 AND %2$I < $2 RETURNING *) '
                   'INSERT INTO poolscope_data.%3$I SELECT * FROM moved',
                   p_parent || '_default', kind.at_column, child)
    USING bound_from, bound_to;
    EXECUTE format('ALTER TABLE poolscope_data.%I ATTACH PARTITION '
                   'poolscope_data.%I FOR VALUES FROM (%L) TO (%L)',
                   p_parent, child, bound_from, bound_to);
    INSERT INTO poolscope_data.partition
    VALUES (p_parent, bound_from, bound_to, child);
    RETURN true;
END $$;

-- Make what the next days need, and what late rows in the default partition
-- need. Returns how many were made; gives up quietly where a lock is not to
-- be had, the next call tries again.
CREATE FUNCTION poolscope_data.partitions_ahead() RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    kind poolscope_data.partitioned;
    wanted timestamptz;
    made integer := 0;
BEGIN
    FOR kind IN SELECT * FROM poolscope_data.partitioned ORDER BY parent LOOP
        FOR wanted IN EXECUTE format(
            'SELECT * FROM generate_series(now() - interval ''1 day'', '
            'now() + interval ''3 days'', ''1 day'') '
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
            EXCEPTION WHEN lock_not_available THEN
                CONTINUE;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- Is anything in this partition not in summaries yet? (Then it stays.)
CREATE FUNCTION poolscope_data.partition_waits(p_child text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    waits boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM (SELECT host_id, max(n) AS n '
        'FROM poolscope_data.%I GROUP BY host_id) s '
        'LEFT JOIN poolscope_data.rollup_position p USING (host_id) '
        'WHERE s.n > coalesce(p.n, 0))', p_child)
    INTO waits;
    RETURN waits;
END $$;

-- Drop partitions past retention, oldest first. Rows of impossible times in
-- a default partition go when everything that came before them is gone.
CREATE FUNCTION poolscope_data.partitions_drop() RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    old record;
    dropped integer := 0;
BEGIN
    FOR old IN
        SELECT p.parent, p.child
        FROM poolscope_data.partition p
        JOIN poolscope_data.partitioned k USING (parent)
        WHERE p.to_at <= now() - poolscope_data.setting_interval(k.retention)
        ORDER BY p.from_at
    LOOP
        IF old.parent IN ('snapshot', 'counter_sample')
           AND poolscope_data.partition_waits(old.child) THEN
            CONTINUE;
        END IF;
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

-- The same for rows that no partition holds. n tells their age: it counts
-- arrivals, whatever their clocks said.
CREATE FUNCTION poolscope_data.default_rows_drop() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    kind poolscope_data.partitioned;
BEGIN
    FOR kind IN
        SELECT * FROM poolscope_data.partitioned
        WHERE parent IN ('snapshot', 'counter_sample', 'other_batch', 'event')
    LOOP
        EXECUTE format(
            'DELETE FROM poolscope_data.%1$I d '
            'USING poolscope_data.rollup_position r, LATERAL '
            '(SELECT n FROM poolscope_data.%2$I s '
            ' WHERE s.host_id = r.host_id AND s.at >= now() - $1 '
            ' AND s.at <= now() ORDER BY at LIMIT 1) kept '
            'WHERE d.host_id = r.host_id AND d.n < kept.n AND d.n <= r.n '
            'AND NOT (d.at BETWEEN now() - $1 AND now() + interval ''1 day'')',
            kind.parent || '_default', kind.parent)
        USING poolscope_data.setting_interval(kind.retention);
    END LOOP;
    DELETE FROM poolscope_data.pool_summary_default
    WHERE hour < now() - poolscope_data.setting_interval('retention_hours');
    DELETE FROM poolscope_data.counter_summary_default
    WHERE hour < now() - poolscope_data.setting_interval('retention_hours');
END $$;

SELECT poolscope_data.partitions_ahead();
