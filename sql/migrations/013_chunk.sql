-- Reads chunks: strings of bytes in, rows out, no table, no state. README.md
-- in sql/extension/ says what each function gives; a PostgreSQL that may load
-- libraries can have these functions in C, much faster, under the same names.
-- To go back from those, run this file again.

-- The snapshots of a chunk, of tags or counters.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_snapshots(
    p_head bytea)
RETURNS TABLE (i integer, n bigint, at timestamptz,
               wall_at timestamptz, boot_id uuid)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 60
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c poolscope_data.chunk_head := chunk_open(p_head, 0);
    t record;
BEGIN
    t := chunk_times(c);
    RETURN QUERY
    SELECT (s.i - 1)::integer, s.n, chunk_time(s.at),
        chunk_time(s.at + s.ahead),
        encode(substr(p_head, 48 + 16 * s.boot, 16), 'hex')::uuid
    FROM unnest(t.n, t.at_us, t.ahead_us, t.boot)
        WITH ORDINALITY s (n, at, ahead, boot, i);
END $$;

-- Where the only block is that may have an id; counted from 1, for substr().
CREATE OR REPLACE FUNCTION poolscope_data.chunk_find(
    p_head bytea, p_id integer)
RETURNS TABLE (levels_from integer, levels_length integer,
               data_from integer, data_length integer)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 1
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c poolscope_data.chunk_head := chunk_open(p_head, 0);
    block integer := chunk_block_of(c, p_id);
    slice record;
BEGIN
    IF block IS NOT NULL THEN
        slice := chunk_slice(c, block);
        levels_from := slice.levels_at + 1;
        levels_length := slice.levels_length;
        data_from := slice.data_at + 1;
        data_length := slice.data_length;
        RETURN NEXT;
    END IF;
END $$;

-- A tag over the run, from the slices that chunk_find() names.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_points(
    p_head bytea, p_levels bytea, p_data bytea, p_id integer)
RETURNS TABLE (n bigint, at timestamptz, flags integer, allocs bigint,
               frees bigint, outstanding bigint, bytes bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 60
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT r.n, r.at, r.flags, r.allocs, r.frees, r.outstanding, r.bytes
    FROM chunk_run(chunk_open(p_head, 4), p_levels, p_data, p_id) r;
END $$;

-- The same of a counter.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_counter_points(
    p_head bytea, p_levels bytea, p_data bytea, p_id integer)
RETURNS TABLE (n bigint, at timestamptz, value double precision)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 60
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT r.n, r.at, r.value
    FROM chunk_run(chunk_open(p_head, 1), p_levels, p_data, p_id) r;
END $$;

-- The tags at the run's first snapshot.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_levels(
    p_head bytea, p_levels bytea)
RETURNS TABLE (id integer, flags integer, bytes bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 3000
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT s.id, s.flags, CASE WHEN s.flags & 8 = 0 THEN NULL
        WHEN s.flags & 16 = 0 THEN s.level ELSE chunk_whole(s.level) END
    FROM chunk_starts(chunk_open(p_head, 4), p_levels) s;
END $$;

-- The counters there.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_counter_levels(
    p_head bytea, p_levels bytea)
RETURNS TABLE (id integer, value double precision)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 1000
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT s.id, CASE WHEN s.flags & 16 = 0 THEN s.level
        ELSE chunk_real(s.level) END
    FROM chunk_starts(chunk_open(p_head, 1), p_levels) s;
END $$;

-- The tags at the run's last snapshot.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_end(
    p_head bytea, p_levels bytea, p_data bytea)
RETURNS TABLE (id integer, flags integer, allocs bigint,
               frees bigint, outstanding bigint, bytes bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 3000
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c poolscope_data.chunk_head := chunk_open(p_head, 4);
BEGIN
    RETURN QUERY
    SELECT e.id, e.flags, e.allocs, e.frees, e.outstanding, e.bytes
    FROM chunk_blocks(c, p_levels, p_data) b, chunk_entries(c, b, NULL) e;
END $$;

-- The counters there.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_counter_end(
    p_head bytea, p_levels bytea, p_data bytea)
RETURNS TABLE (id integer, value double precision)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 1000
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c poolscope_data.chunk_head := chunk_open(p_head, 1);
BEGIN
    RETURN QUERY
    SELECT e.id, e.value
    FROM chunk_blocks(c, p_levels, p_data) b, chunk_entries(c, b, NULL) e;
END $$;

GRANT EXECUTE ON FUNCTION
    poolscope_data.chunk_snapshots(bytea),
    poolscope_data.chunk_find(bytea, integer),
    poolscope_data.chunk_points(bytea, bytea, bytea, integer),
    poolscope_data.chunk_counter_points(bytea, bytea, bytea, integer),
    poolscope_data.chunk_levels(bytea, bytea),
    poolscope_data.chunk_counter_levels(bytea, bytea),
    poolscope_data.chunk_end(bytea, bytea, bytea),
    poolscope_data.chunk_counter_end(bytea, bytea, bytea)
    TO poolscope_reader, poolscope_writer;
