-- What administrators ask of the store: is it whole, and how long will the
-- disk last?

-- Chunks of a host in the order of their key, from behind one; kind is tags or
-- counters.
CREATE FUNCTION poolscope_api.chunk_page(
    p_kind text, p_host_id bigint, p_after_span timestamptz,
    p_after_n bigint, p_max_rows integer)
RETURNS TABLE (span_at timestamptz, n_from bigint, n_to bigint,
               at_from timestamptz, at_to timestamptz, snapshots integer,
               head bytea, levels bytea, data bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT span_at, n_from, n_to, at_from, at_to, snapshots, head, '
        'levels, data FROM %I WHERE host_id = $1 '
        'AND (span_at, n_from) > ($2, $3) '
        'ORDER BY span_at, n_from LIMIT $4',
        CASE p_kind WHEN 'tags' THEN 'tag_chunk' ELSE 'counter_chunk' END)
    USING p_host_id, p_after_span, p_after_n, p_max_rows;
END $$;

-- Chunks of a host that share samples with the one before them, or go beyond
-- what is settled: either would be told twice. And those that lie where views do
-- not look for their times.
CREATE FUNCTION poolscope_api.chunk_overlaps(p_kind text, p_host_id bigint)
RETURNS TABLE (span_at timestamptz, n_from bigint, n_to bigint, why text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT c.span_at, c.n_from, c.n_to, '
        'CASE WHEN c.n_from <= c.before THEN ''shares samples with another'' '
        'WHEN c.is_outside THEN ''lies outside of its span'' '
        'ELSE ''goes beyond what is settled'' END '
        'FROM (SELECT span_at, n_from, n_to, at_from < span_at OR '
        '          at_to >= span_at + interval ''4 hours'' AS is_outside, '
        '          max(n_to) OVER (ORDER BY n_from ROWS BETWEEN '
        '              UNBOUNDED PRECEDING AND 1 PRECEDING) AS before '
        '      FROM %I WHERE host_id = $1) c '
        'LEFT JOIN host_settle s ON s.host_id = $1 '
        'WHERE c.n_from <= c.before OR c.is_outside '
        'OR c.n_to > coalesce(s.%I, 0) '
        'ORDER BY 1, 2',
        CASE p_kind WHEN 'tags' THEN 'tag_chunk' ELSE 'counter_chunk' END,
        CASE p_kind WHEN 'tags' THEN 'tags_n' ELSE 'counters_n' END)
    USING p_host_id;
END $$;

GRANT EXECUTE ON FUNCTION
    poolscope_api.chunk_page(text, bigint, timestamptz, bigint, integer),
    poolscope_api.chunk_overlaps(text, bigint)
    TO poolscope_writer;
