-- What detection reads: which hosts have advanced, their fresh rows as they
-- came, and their chunks when a process begins with a host.

DROP FUNCTION poolscope_api.host_positions(),
    poolscope_api.tag_rows(bigint, bigint, timestamptz, integer),
    poolscope_api.counter_rows(bigint, bigint, timestamptz, integer);

-- Hosts whose cursor was written since the call that gave this horizon (NULL:
-- all). What that call did not see was written by a transaction that its
-- snapshot took for running, or by a later one; so a look at each cursor's
-- xmin finds them, and costs no index that every sample would have to keep.
CREATE FUNCTION poolscope_api.feed_hosts(p_since xid)
RETURNS TABLE (host_id bigint, n bigint, interval_us bigint, horizon xid)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT c.host_id, c.n,
        (SELECT s.interval_us FROM host_state s WHERE s.host_id = c.host_id),
        pg_snapshot_xmin(pg_current_snapshot())::xid
    FROM ingest_cursor c
    WHERE c.n > 0 AND (p_since IS NULL OR age(c.xmin) <= age(p_since))
$$;

-- Where a process begins with a host: up to seen_n all is told, up to tags_n
-- and counters_n it is in chunks.
CREATE FUNCTION poolscope_api.feed_begin(p_host_id bigint)
RETURNS TABLE (seen_n bigint, tags_n bigint, counters_n bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT coalesce((SELECT d.n FROM detect_position d
                     WHERE d.host_id = p_host_id), 0),
        coalesce(max(t.tags_n), 0), coalesce(max(t.counters_n), 0)
    FROM host_settle t WHERE t.host_id = p_host_id
$$;

-- Rows of each host behind its n, a host's in order of n, until there are
-- p_max_bytes of tables in them; if there are less, that was all.
--
-- Slots that were closed more than p_within_us ago are not looked into (NULL:
-- all are). A host's rows lie in the slots in the order in which these were
-- opened. The tables are named, since the planner keeps all partitions for a
-- list of slots, and looks into each for each host.
CREATE FUNCTION poolscope_api.fresh_rows(
    p_host_ids bigint[], p_after_ns bigint[], p_within_us bigint,
    p_max_bytes bigint)
RETURNS TABLE (host_id bigint, n bigint, at timestamptz, boot_id uuid,
               tags_kind smallint, tags bytea, counters_kind smallint,
               counters bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    from_slot smallint;
    left_bytes bigint := p_max_bytes;
BEGIN
    FOR from_slot IN
        SELECT s.slot FROM fresh_slot s
        WHERE s.opened_at IS NOT NULL
          AND (p_within_us IS NULL OR s.closed_at IS NULL OR s.closed_at
               > now() - p_within_us * interval '1 microsecond')
        ORDER BY s.opened_at, s.slot
    LOOP
        FOR host_id, n, at, boot_id, tags_kind, tags, counters_kind, counters
        IN EXECUTE format(
            'SELECT f.host_id, f.n, f.at, f.boot_id, f.tags_kind, f.tags, '
            'f.counters_kind, f.counters '
            'FROM unnest($1, $2) AS h(host_id, n), LATERAL '
            '(SELECT * FROM fresh_%s r WHERE r.host_id = h.host_id '
            'AND r.n > h.n ORDER BY r.n) f', from_slot)
        USING p_host_ids, p_after_ns
        LOOP
            RETURN NEXT;
            left_bytes := left_bytes - coalesce(octet_length(tags), 0)
                - coalesce(octet_length(counters), 0);
            IF left_bytes <= 0 THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;

-- Chunks of a host in order of n, kind tags or counters: those with samples
-- behind p_after_n, all of them up to p_to_n, some of them not before p_since.
-- Until there are p_max_bytes in them; no row: there are no more.
CREATE FUNCTION poolscope_api.chunk_rows(
    p_host_id bigint, p_kind text, p_after_n bigint, p_to_n bigint,
    p_since timestamptz, p_max_bytes bigint)
RETURNS TABLE (n_to bigint, head bytea, levels bytea, data bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    left_bytes bigint := p_max_bytes;
BEGIN
    FOR n_to, head, levels, data IN EXECUTE format(
        'SELECT n_to, head, levels, data FROM %I WHERE host_id = $1 '
        'AND n_to > $2 AND n_to <= $3 AND at_to >= $4 '
        'AND span_at >= $4 - interval ''4 hours'' ORDER BY n_from',
        CASE p_kind WHEN 'tags' THEN 'tag_chunk' ELSE 'counter_chunk' END)
    USING p_host_id, p_after_n, p_to_n, p_since
    LOOP
        RETURN NEXT;
        left_bytes := left_bytes - octet_length(levels) - octet_length(data);
        IF left_bytes <= 0 THEN
            RETURN;
        END IF;
    END LOOP;
END $$;

GRANT EXECUTE ON FUNCTION
    poolscope_api.feed_hosts(xid),
    poolscope_api.feed_begin(bigint),
    poolscope_api.fresh_rows(bigint[], bigint[], bigint, bigint),
    poolscope_api.chunk_rows(bigint, text, bigint, bigint, timestamptz, bigint)
    TO poolscope_writer;
