-- Housekeeping: hours into summaries, partitions made and dropped.
--
-- How far a host is rolled up is one number, the n of its last row that is in
-- summaries. Times grow with n, so a late row can only fall into the hour of
-- the last row rolled up or a later one: such an hour is simply made anew, as
-- a whole. Nothing is incremented, so a kill at any moment loses nothing.

-- Replace the summaries of one hour. Once samples that old are no longer kept
-- the hour cannot be made anew as a whole; then what is there stays.
CREATE FUNCTION poolscope_data.hour_summarise(p_host_id bigint,
                                              p_hour timestamptz)
RETURNS void LANGUAGE plpgsql
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    IF p_hour >= now() - setting_interval('retention_points') THEN
        DELETE FROM pool_summary WHERE host_id = p_host_id AND hour = p_hour;
        DELETE FROM counter_summary
        WHERE host_id = p_host_id AND hour = p_hour;
    END IF;
    INSERT INTO pool_summary
    SELECT p_host_id, p_hour, array_agg(x.tag_id), array_agg(x.first_bytes),
        array_agg(x.last_bytes), array_agg(x.min_bytes),
        array_agg(x.max_bytes), array_agg(x.mean_bytes),
        array_agg(x.last_outstanding)
    FROM (SELECT * FROM tags_hour(p_host_id, p_hour) ORDER BY tag_id) x
    HAVING count(*) > 0
    ON CONFLICT DO NOTHING;
    INSERT INTO counter_summary
    SELECT p_host_id, p_hour, array_agg(x.counter_id),
        array_agg(x.first_value), array_agg(x.last_value),
        array_agg(x.min_value), array_agg(x.max_value),
        array_agg(x.mean_value)
    FROM (SELECT * FROM counters_hour(p_host_id, p_hour)
          ORDER BY counter_id) x
    HAVING count(*) > 0
    ON CONFLICT DO NOTHING;
END $$;

-- Roll up the finished hours of one host until p_deadline; how many. An hour
-- is finished when the host has sent something later or the clock says so.
CREATE FUNCTION poolscope_data.host_rollup(p_host_id bigint,
                                           p_deadline timestamptz)
RETURNS integer LANGUAGE plpgsql
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c ingest_cursor;
    hour_at timestamptz;
    last_n bigint;
    hours integer := 0;
BEGIN
    -- All rows up to c.n are committed and visible to what follows.
    SELECT * INTO c FROM ingest_cursor WHERE host_id = p_host_id;
    INSERT INTO rollup_position (host_id, n) VALUES (p_host_id, 0)
    ON CONFLICT DO NOTHING;
    LOOP
        hour_at := live_from(p_host_id);
        UPDATE rollup_position
        SET open_hour = hour_at, n = CASE WHEN hour_at IS NULL THEN c.n
                                          ELSE n END
        WHERE host_id = p_host_id;
        EXIT WHEN hour_at IS NULL OR clock_timestamp() >= p_deadline
            OR hour_at + interval '1 hour' > greatest(
                   c.last_at, now() - interval '2 minutes');
        last_n := greatest(
            (SELECT max(n) FROM snapshot WHERE host_id = p_host_id
             AND at >= hour_at AND at < hour_at + interval '1 hour'
             AND n <= c.n),
            (SELECT max(n) FROM counter_sample WHERE host_id = p_host_id
             AND at >= hour_at AND at < hour_at + interval '1 hour'
             AND n <= c.n));
        EXIT WHEN last_n IS NULL; -- only rows newer than c: next time
        PERFORM hour_summarise(p_host_id, hour_at);
        UPDATE rollup_position SET n = last_n WHERE host_id = p_host_id;
        hours := hours + 1;
    END LOOP;
    RETURN hours;
END $$;

-- Tags and counters that no host has had for half a year leave the registry.
-- Collectors learn of it by the epoch and forget the ids that they hold.
CREATE FUNCTION poolscope_data.registry_forget() RETURNS void
LANGUAGE plpgsql SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    forgotten bigint;
    counters bigint;
BEGIN
    UPDATE tag t SET last_seen = now()
    WHERE t.last_seen < now() - interval '7 days' AND t.tag_id IN (
        SELECT unnest(tag_ids) FROM pool_summary
        WHERE hour > now() - interval '2 days');
    UPDATE counter_name t SET last_seen = now()
    WHERE t.last_seen < now() - interval '7 days' AND t.counter_id IN (
        SELECT unnest(counter_ids) FROM counter_summary
        WHERE hour > now() - interval '2 days');
    DELETE FROM tag t
    WHERE t.last_seen < now() - greatest(
            interval '180 days', 2 * setting_interval('retention_hours'))
      AND NOT EXISTS (SELECT FROM leak l WHERE l.tag_id = t.tag_id);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    DELETE FROM counter_name
    WHERE last_seen < now() - greatest(
        interval '180 days', 2 * setting_interval('retention_hours'));
    GET DIAGNOSTICS counters = ROW_COUNT;
    IF forgotten + counters > 0 THEN
        UPDATE setting SET value = (value::bigint + 1)::text
        WHERE name = 'registry_epoch';
    END IF;
END $$;

CREATE TABLE poolscope_data.maintenance (
    job text PRIMARY KEY,
    next_at timestamptz NOT NULL
);
INSERT INTO poolscope_data.maintenance VALUES ('daily', '-infinity');

CREATE FUNCTION poolscope_api.maintain(p_budget interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp
SET lock_timeout = '2s' AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + p_budget;
    due bigint;
    made integer;
    rolled integer := 0;
    dropped integer := 0;
    more boolean := false;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('poolscope maintain')) THEN
        RETURN jsonb_build_object('busy', true, 'more', false);
    END IF;
    FOR due IN
        SELECT c.host_id FROM ingest_cursor c
        LEFT JOIN rollup_position p USING (host_id)
        WHERE c.n > coalesce(p.n, 0)
          AND (p.open_hour IS NULL OR p.open_hour + interval '1 hour'
               <= greatest(c.last_at, now() - interval '2 minutes'))
        ORDER BY c.host_id
    LOOP
        IF clock_timestamp() >= deadline THEN
            more := true;
            EXIT;
        END IF;
        rolled := rolled + host_rollup(due, deadline);
    END LOOP;
    IF NOT more THEN
        UPDATE maintenance SET next_at = now() + interval '1 day'
        WHERE job = 'daily' AND next_at <= now();
        IF FOUND THEN
            PERFORM default_rows_drop();
            PERFORM registry_forget();
        END IF;
    END IF;
    -- Last, since they hold locks until the end that readers wait for; a drop
    -- those of the whole table, which ingest waits for too.
    made := partitions_ahead();
    IF NOT more THEN
        dropped := partitions_drop();
    END IF;
    RETURN jsonb_build_object('partitions_made', made,
        'hours_rolled_up', rolled, 'partitions_dropped', dropped,
        'more', more);
END $$;
