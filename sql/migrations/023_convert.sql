-- What the first version stored, into the tables of today: its samples into
-- chunks, its hours into summaries. The collector's worker does it, host by host,
-- while agents go on sending; what is done can be read at once. The old tables go
-- when all is done.

DROP TABLE poolscope_data.rollup_position;
DO $$
DECLARE
    old text;
    used boolean;
BEGIN
    FOREACH old IN ARRAY ARRAY['pool_summary', 'counter_summary'] LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM poolscope_data.%I)', old)
        INTO used;
        IF used THEN
            EXECUTE format('ALTER TABLE poolscope_data.%I RENAME TO %I', old,
                           old || '_v1');
            EXECUTE format('ALTER TABLE poolscope_data.%I RENAME TO %I',
                           old || '_default', old || '_v1_default');
            UPDATE poolscope_data.partition SET parent = old || '_v1'
            WHERE parent = old;
            UPDATE poolscope_data.partitioned SET parent = old || '_v1'
            WHERE parent = old;
        ELSE
            EXECUTE format('DROP TABLE poolscope_data.%I', old);
            DELETE FROM poolscope_data.partition WHERE parent = old;
            DELETE FROM poolscope_data.partitioned WHERE parent = old;
        END IF;
    END LOOP;
END $$;

-- n: samples up to there are converted.
CREATE TABLE poolscope_data.convert_due (
    host_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('tags', 'counters', 'tag_hours',
                                       'counter_hours')),
    n bigint NOT NULL DEFAULT 0,
    retry_at timestamptz,           -- it failed: not before
    PRIMARY KEY (host_id, kind)
);
-- In the order in which they are done.
CREATE INDEX ON poolscope_data.convert_due
    ((kind LIKE '%hours') DESC, host_id, kind);

-- The old table of a kind; NULL: there is none.
CREATE FUNCTION poolscope_data.convert_table(p_kind text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT x.name FROM (VALUES
        ('tags', 'snapshot_v1'), ('counters', 'counter_sample_v1'),
        ('tag_hours', 'pool_summary_v1'),
        ('counter_hours', 'counter_summary_v1'))
        AS x(kind, name)
    WHERE x.kind = p_kind
      AND to_regclass('poolscope_data.' || x.name) IS NOT NULL
$$;

-- Drop what is left of the first version. Returns whether anything was.
CREATE FUNCTION poolscope_data.convert_drop() RETURNS boolean
LANGUAGE plpgsql SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    old text;
    dropped boolean := false;
BEGIN
    FOREACH old IN ARRAY ARRAY['snapshot_v1', 'counter_sample_v1',
        'other_batch_v1', 'pool_summary_v1', 'counter_summary_v1']
    LOOP
        IF to_regclass('poolscope_data.' || old) IS NOT NULL THEN
            EXECUTE format('DROP TABLE %I', old);
            dropped := true;
        END IF;
        DELETE FROM partition WHERE parent = old;
        DELETE FROM partitioned WHERE parent = old;
    END LOOP;
    RETURN dropped;
END $$;

DO $$
DECLARE
    k text;
    old text;
BEGIN
    FOREACH k IN ARRAY ARRAY['tags', 'counters', 'tag_hours',
                             'counter_hours'] LOOP
        old := poolscope_data.convert_table(k);
        IF old IS NOT NULL THEN
            EXECUTE format('INSERT INTO poolscope_data.convert_due '
                '(host_id, kind) SELECT DISTINCT host_id, %L '
                'FROM poolscope_data.%I', k, old);
        END IF;
    END LOOP;
    IF NOT EXISTS (SELECT FROM poolscope_data.convert_due) THEN
        PERFORM poolscope_data.convert_drop();
    END IF;
    -- Readers look into chunks for what is at or below these.
    INSERT INTO poolscope_data.host_settle (host_id, tags_n, counters_n)
    SELECT c.host_id, coalesce(c.tags_n, 0), coalesce(c.counters_n, 0)
    FROM poolscope_data.ingest_cursor c
    WHERE c.n > 0 ON CONFLICT DO NOTHING;
END $$;

-- The next to do: hours first, since samples make those of their days anew.
CREATE FUNCTION poolscope_api.convert_next(
    OUT host_id bigint, OUT kind text, OUT n bigint, OUT left_over bigint,
    OUT span_us bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
BEGIN
    SELECT count(*) INTO left_over FROM convert_due;
    SELECT d.host_id, d.kind, d.n,
        (extract(epoch FROM settle_span(coalesce(s.interval_us, 60000000)))
         * 1000000)::bigint
    INTO host_id, kind, n, span_us
    FROM convert_due d LEFT JOIN host_state s USING (host_id)
    WHERE d.retry_at IS NULL OR d.retry_at <= now()
    ORDER BY d.kind LIKE '%hours' DESC, d.host_id, d.kind LIMIT 1;
END $$;

-- A host's samples behind one, in order of n. Of counters, values are in
-- "reals" and the other arrays NULL.
CREATE FUNCTION poolscope_api.convert_rows(
    p_host_id bigint, p_kind text, p_after_n bigint, p_max_rows integer)
RETURNS TABLE (n bigint, at timestamptz, wall_at timestamptz, boot_id uuid,
               keyframe boolean, ids integer[], allocs bigint[],
               frees bigint[], outstanding bigint[], bytes bigint[],
               reals double precision[], gone integer[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    IF p_kind = 'tags' THEN
        RETURN QUERY
        SELECT s.n, s.at, s.wall_at, s.boot_id, s.keyframe, s.tag_ids,
            s.allocs, s.frees, s.outstanding, s.bytes,
            NULL::double precision[], s.gone
        FROM snapshot_v1 s WHERE s.host_id = p_host_id AND s.n > p_after_n
        ORDER BY s.n LIMIT p_max_rows;
    ELSE
        RETURN QUERY
        SELECT s.n, s.at, s.wall_at, s.boot_id, s.keyframe, s.counter_ids,
            NULL::bigint[], NULL::bigint[], NULL::bigint[], NULL::bigint[],
            s.counter_values, s.gone
        FROM counter_sample_v1 s
        WHERE s.host_id = p_host_id AND s.n > p_after_n
        ORDER BY s.n LIMIT p_max_rows;
    END IF;
END $$;

-- A host's hours from a moment on, values as they are kept now.
CREATE FUNCTION poolscope_api.convert_hours(
    p_host_id bigint, p_kind text, p_after timestamptz, p_max_rows integer)
RETURNS TABLE (hour timestamptz, ids integer[], first double precision[],
               last double precision[], min double precision[],
               max double precision[], mean double precision[],
               outstanding bigint[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    IF p_kind = 'tag_hours' THEN
        RETURN QUERY
        SELECT s.hour, s.tag_ids, s.first_bytes::double precision[],
            s.last_bytes::double precision[],
            s.min_bytes::double precision[], s.max_bytes::double precision[],
            s.mean_bytes::double precision[], s.last_outstanding
        FROM pool_summary_v1 s
        WHERE s.host_id = p_host_id AND s.hour > p_after
        ORDER BY s.hour LIMIT p_max_rows;
    ELSE
        RETURN QUERY
        SELECT s.hour, s.counter_ids, s.first_values, s.last_values,
            s.min_values, s.max_values, s.mean_values, NULL::bigint[]
        FROM counter_summary_v1 s
        WHERE s.host_id = p_host_id AND s.hour > p_after
        ORDER BY s.hour LIMIT p_max_rows;
    END IF;
END $$;

-- Chunks of a host's samples beyond p_expected_n up to p_new_n; p_last: there
-- are no more. False, and nothing done, if others did it.
CREATE FUNCTION poolscope_api.convert_store(
    p_host_id bigint, p_kind text, p_expected_n bigint, p_new_n bigint,
    p_last boolean, p_span_ats timestamptz[], p_n_froms bigint[],
    p_n_tos bigint[], p_at_froms timestamptz[], p_at_tos timestamptz[],
    p_snapshots integer[], p_heads bytea[], p_levels bytea[], p_datas bytea[])
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    -- summary_store() locks it too.
    PERFORM FROM host_settle WHERE host_id = p_host_id FOR UPDATE;
    UPDATE convert_due SET n = p_new_n
    WHERE host_id = p_host_id AND kind = p_kind AND n = p_expected_n;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM convert_due
    WHERE host_id = p_host_id AND kind = p_kind AND p_last;
    PERFORM summary_touch(p_host_id, p_kind, p_span_ats);
    EXECUTE format('INSERT INTO %I SELECT $1, c.* FROM unnest($2, $3, $4, $5, '
        '$6, $7, $8, $9, $10) c',
        CASE p_kind WHEN 'tags' THEN 'tag_chunk' ELSE 'counter_chunk' END)
    USING p_host_id, p_span_ats, p_n_froms, p_n_tos, p_at_froms, p_at_tos,
        p_snapshots, p_heads, p_levels, p_datas;
    RETURN true;
END $$;

-- The summary of a day of a host, unless its samples have come already.
CREATE FUNCTION poolscope_api.convert_day(
    p_host_id bigint, p_kind text, p_day timestamptz, p_snapshots integer[],
    p_head bytea, p_levels bytea, p_data bytea)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    samples text := CASE p_kind WHEN 'tag_hours' THEN 'tags'
                                ELSE 'counters' END;
BEGIN
    -- summary_store() locks it too.
    PERFORM FROM host_settle WHERE host_id = p_host_id FOR UPDATE;
    PERFORM FROM summary_due WHERE host_id = p_host_id AND kind = samples
        AND step = 'hour' AND from_at = p_day;
    IF FOUND THEN
        RETURN;
    END IF;
    EXECUTE format('INSERT INTO %I VALUES ($1, $2, $3, $4, $5, $6) '
                   'ON CONFLICT DO NOTHING',
        CASE p_kind WHEN 'tag_hours' THEN 'tag_hours'
                    ELSE 'counter_hours' END)
    USING p_host_id, p_day, p_snapshots, p_head, p_levels, p_data;
    INSERT INTO summary_due (host_id, kind, step, from_at)
    VALUES (p_host_id, samples, 'day', date_trunc('month', p_day, 'UTC'))
    ON CONFLICT DO NOTHING;
END $$;

CREATE FUNCTION poolscope_api.convert_done(p_host_id bigint, p_kind text)
RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    DELETE FROM convert_due WHERE host_id = p_host_id AND kind = p_kind
$$;

-- What is in a row cannot be converted: it is tried again an hour later.
CREATE FUNCTION poolscope_api.convert_failed(p_host_id bigint, p_kind text)
RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    UPDATE convert_due SET retry_at = now() + interval '1 hour'
    WHERE host_id = p_host_id AND kind = p_kind
$$;

-- All is done: the tables of the first version go. Returns whether they were
-- there.
CREATE FUNCTION poolscope_api.convert_end() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    IF EXISTS (SELECT FROM convert_due) THEN
        RETURN false;
    END IF;
    RETURN convert_drop();
END $$;

-- Detection begins with a host when its samples are converted, else it would
-- never see them.
CREATE OR REPLACE FUNCTION poolscope_api.feed_hosts(p_since xid)
RETURNS TABLE (host_id bigint, n bigint, interval_us bigint, horizon xid)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT c.host_id, c.n,
        (SELECT s.interval_us FROM host_state s WHERE s.host_id = c.host_id),
        pg_snapshot_xmin(pg_current_snapshot())::xid
    FROM ingest_cursor c
    WHERE c.n > 0 AND (p_since IS NULL OR age(c.xmin) <= age(p_since))
      AND NOT EXISTS (
          SELECT FROM convert_due d
          WHERE d.host_id = c.host_id AND d.kind IN ('tags', 'counters')
            AND d.retry_at IS NULL)
$$;

GRANT EXECUTE ON FUNCTION
    poolscope_api.convert_next(),
    poolscope_api.convert_rows(bigint, text, bigint, integer),
    poolscope_api.convert_hours(bigint, text, timestamptz, integer),
    poolscope_api.convert_store(bigint, text, bigint, bigint, boolean,
        timestamptz[], bigint[], bigint[], timestamptz[], timestamptz[],
        integer[], bytea[], bytea[], bytea[]),
    poolscope_api.convert_day(bigint, text, timestamptz, integer[], bytea,
        bytea, bytea),
    poolscope_api.convert_done(bigint, text),
    poolscope_api.convert_failed(bigint, text),
    poolscope_api.convert_end()
    TO poolscope_writer;
