-- Reads rows of the fresh tier (proto/stored.h says what is in them) and hours
-- of chunks: strings of bytes in, rows out, no table, no state. README.md in
-- sql/extension/ says what each function gives; a PostgreSQL that may load
-- libraries can have those of the GRANT below in C, under the same names. To
-- go back from those, run this file again.
--
-- Places are in bytes from the start of a string. Callers set the search path.

-- A varint that ends at p_end or before.
CREATE OR REPLACE FUNCTION poolscope_data.stored_varint(
    p_bytes bytea, INOUT p_at integer, p_end integer, OUT value bigint)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    byte integer;
    shift integer := 0;
BEGIN
    value := 0;
    LOOP
        byte := CASE WHEN p_at < p_end THEN get_byte(p_bytes, p_at) END;
        IF byte IS NULL OR shift > 63 OR shift = 63 AND byte > 1 THEN
            RAISE data_corrupted USING MESSAGE = 'stored table: bad varint';
        END IF;
        p_at := p_at + 1;
        value := value | ((byte & 127)::bigint << shift);
        EXIT WHEN byte < 128;
        shift := shift + 7;
    END LOOP;
END $$;

-- The varints from p_at to p_end, which is where the last one ends.
CREATE OR REPLACE FUNCTION poolscope_data.stored_varints(
    p_bytes bytea, p_at integer, p_end integer)
RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    numbers bigint[] := '{}';
    n integer := 0;
    x integer;
    y integer;
    r record;
BEGIN
    WHILE p_at < p_end LOOP
        x := get_byte(p_bytes, p_at);
        n := n + 1;
        IF x < 128 THEN
            numbers[n] := x;
            p_at := p_at + 1;
            CONTINUE;
        END IF;
        y := CASE WHEN p_at + 1 < p_end THEN get_byte(p_bytes, p_at + 1) END;
        IF y < 128 THEN
            numbers[n] := (x & 127) | (y << 7);
            p_at := p_at + 2;
        ELSE
            r := stored_varint(p_bytes, p_at, p_end);
            numbers[n] := r.value;
            p_at := r.p_at;
        END IF;
    END LOOP;
    RETURN numbers;
END $$;

-- Opens a table: names it adds, and where the rest is; values follow the gaps.
-- p_max: so many names at most.
CREATE OR REPLACE FUNCTION poolscope_data.stored_open(
    p_bytes bytea, p_max integer, OUT ids integer[], OUT flags integer[],
    OUT gone_at integer, OUT gone_end integer, OUT gaps_at integer,
    OUT gaps_end integer)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    size CONSTANT integer := length(p_bytes);
    at integer;
    names bigint;
    id bigint;
    y integer;
    r record;
BEGIN
    IF size > 0 AND get_byte(p_bytes, 0) <> 1 THEN
        RAISE feature_not_supported USING MESSAGE = format(
            'stored table: version %s, known is 1', get_byte(p_bytes, 0));
    END IF;
    r := stored_varint(p_bytes, 1, size);
    at := r.p_at;
    names := r.value;
    IF names < 0 OR names > p_max OR at + 2 * names > size THEN
        RAISE data_corrupted USING MESSAGE = 'stored table: bad names';
    END IF;
    ids := '{}';
    flags := '{}';
    FOR i IN 1..names LOOP
        flags[i] := get_byte(p_bytes, at);
        id := get_byte(p_bytes, at + 1);
        at := at + 2;
        IF id > 127 THEN
            y := get_byte(p_bytes, at);
            IF y < 128 THEN
                id := (id & 127) | (y << 7);
                at := at + 1;
            ELSE
                r := stored_varint(p_bytes, at - 1, size);
                id := r.value;
                at := r.p_at;
                IF id NOT BETWEEN 0 AND 2147483647 THEN
                    RAISE data_corrupted
                        USING MESSAGE = 'stored table: bad id';
                END IF;
            END IF;
        END IF;
        ids[i] := id;
    END LOOP;
    r := stored_varint(p_bytes, at, size);
    IF r.value NOT BETWEEN 0 AND size - r.p_at THEN
        RAISE data_corrupted USING MESSAGE = 'stored table: cut off';
    END IF;
    gone_at := r.p_at;
    gone_end := r.p_at + r.value;
    r := stored_varint(p_bytes, gone_end, size);
    IF r.value NOT BETWEEN 0 AND size - r.p_at THEN
        RAISE data_corrupted USING MESSAGE = 'stored table: cut off';
    END IF;
    gaps_at := r.p_at;
    gaps_end := r.p_at + r.value;
END $$;

-- For the head of the gaps: the columns of an entry by the low bits of its
-- number; how many bits those are follows from the length.
CREATE OR REPLACE FUNCTION poolscope_data.stored_masks(p_head integer)
RETURNS integer[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    masks integer[] := ARRAY[0];
BEGIN
    IF p_head > 31 THEN
        RAISE data_corrupted
            USING MESSAGE = 'stored table: bad head of gaps';
    ELSIF p_head > 15 THEN
        RETURN ARRAY[p_head - 16];
    END IF;
    FOR c IN 0..3 LOOP
        IF (p_head >> c) & 1 = 1 THEN
            masks := masks || (SELECT array_agg(m | (1 << c) ORDER BY i)
                FROM unnest(masks) WITH ORDINALITY u (m, i));
        END IF;
    END LOOP;
    RETURN masks;
END $$;

-- The columns that an entry sends.
CREATE OR REPLACE FUNCTION poolscope_data.stored_sends(
    p_columns integer, p_flags integer)
RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN p_columns = 1 THEN 1
        WHEN p_flags & 23 = 7 THEN p_flags & 11
        ELSE p_flags & 15 END;
END $$;

-- The n-th of p_kinds as they count: those of rows without the table are 0.
CREATE OR REPLACE FUNCTION poolscope_data.stored_kinds(
    p_rows bytea[], p_kinds smallint[])
RETURNS integer[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    kinds integer[];
BEGIN
    IF cardinality(p_rows) <> cardinality(p_kinds) THEN
        RAISE data_corrupted
            USING MESSAGE = 'stored table: not a kind for each row';
    END IF;
    kinds := ARRAY(
        SELECT CASE WHEN u.bytes IS NULL THEN 0 ELSE coalesce(u.kind, 0) END
        FROM unnest(p_rows, p_kinds) WITH ORDINALITY u (bytes, kind, i)
        ORDER BY u.i);
    IF EXISTS (SELECT FROM unnest(kinds) k WHERE k NOT BETWEEN 0 AND 2)
       OR coalesce((SELECT k FROM unnest(kinds) WITH ORDINALITY u (k, i)
                    WHERE k > 0 ORDER BY i LIMIT 1), 2) <> 2 THEN
        RAISE data_corrupted
            USING MESSAGE = 'stored table: no keyframe before a delta';
    END IF;
    RETURN kinds;
END $$;

-- All changes of rows that begin with a keyframe, in order: the values that an
-- entry has from row i (from 1) on, or that it is gone. part counts keyframes:
-- what an earlier part has ends there. With p_end only the entries that are
-- there after the last row.
CREATE OR REPLACE FUNCTION poolscope_data.stored_changes(
    p_columns integer, p_rows bytea[], p_kinds smallint[], p_end boolean)
RETURNS TABLE (i integer, part integer, id integer, flags integer,
               present boolean, v0 bigint, v1 bigint, v2 bigint, v3 bigint)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 3000 AS $$
DECLARE
    kinds integer[] := stored_kinds(p_rows, p_kinds);
    most CONSTANT integer := CASE p_columns WHEN 1 THEN 8192 ELSE 32768 END;
    wide CONSTANT integer := p_columns - 1; -- the column of amounts
    d bytea;
    size integer;
    t record;
    ids integer[];
    all_flags integer[];
    sends integer[];
    live integer[];     -- 1; 0 or -i: absent, since row i
    now bigint[];       -- four an entry
    n integer;
    gaps bigint[];
    masks integer[];
    bits integer;
    pos integer;
    at integer;
    mask integer;
    x bigint;
    y integer;
    r record;
BEGIN
    part := 0;
    n := 0;
    i := 0;
    FOR d IN SELECT u.b FROM unnest(p_rows) WITH ORDINALITY u (b, o) ORDER BY o
    LOOP
        i := i + 1;
        CONTINUE WHEN kinds[i] = 0;
        size := length(d);
        IF kinds[i] = 2 THEN
            part := part + 1;
            ids := '{}';
            all_flags := '{}';
            sends := '{}';
            live := '{}';
            now := '{}';
            n := 0;
        END IF;
        t := stored_open(d, most - n);
        IF t.ids <> '{}' THEN
            ids := ids || t.ids;
            all_flags := all_flags || t.flags;
            sends := sends || ARRAY(SELECT stored_sends(p_columns, f)
                FROM unnest(t.flags) WITH ORDINALITY u (f, o) ORDER BY o);
            live := live || array_fill(0, ARRAY[cardinality(t.ids)]);
            now := now || array_fill(0::bigint,
                                     ARRAY[4 * cardinality(t.ids)]);
            n := cardinality(ids);
            IF (SELECT count(*) <> count(DISTINCT u) FROM unnest(ids) u
                WHERE u > 0) THEN
                RAISE data_corrupted
                    USING MESSAGE = 'stored table: an id came twice';
            END IF;
        END IF;
        IF kinds[i] = 2 AND t.gone_end > t.gone_at THEN
            RAISE data_corrupted USING MESSAGE =
                'stored table: a keyframe in which something vanished';
        END IF;
        pos := 0;
        present := false;
        v0 := NULL;
        v1 := NULL;
        v2 := NULL;
        v3 := NULL;
        FOREACH x IN ARRAY stored_varints(d, t.gone_at, t.gone_end) LOOP
            IF x NOT BETWEEN 0 AND n - pos - 1 OR live[pos + x + 1] <> 1 THEN
                RAISE data_corrupted
                    USING MESSAGE = 'stored table: bad gap to what vanished';
            END IF;
            pos := pos + x + 1;
            live[pos] := -i;
            now[4 * pos - 3 : 4 * pos] := '{0,0,0,0}';
            id := ids[pos];
            flags := all_flags[pos];
            IF id > 0 AND NOT p_end THEN
                RETURN NEXT;
            END IF;
        END LOOP;
        gaps := '{}';
        IF t.gaps_end > t.gaps_at THEN
            masks := stored_masks(get_byte(d, t.gaps_at));
            bits := array_position('{1,2,4,8,16}', cardinality(masks)) - 1;
            gaps := stored_varints(d, t.gaps_at + 1, t.gaps_end);
        END IF;
        pos := 0;
        at := t.gaps_end;
        present := true;
        FOREACH x IN ARRAY gaps LOOP
            mask := masks[(x & ((1 << bits) - 1)) + 1];
            x := x >> bits;
            IF x NOT BETWEEN 0 AND n - pos - 1 THEN
                RAISE data_corrupted USING MESSAGE = 'stored table: bad gap';
            END IF;
            pos := pos + x + 1;
            flags := all_flags[pos];
            IF mask & ~sends[pos] <> 0 OR live[pos] = -i THEN
                RAISE data_corrupted USING MESSAGE = 'stored table: bad entry';
            END IF;
            live[pos] := 1;
            FOR c IN 0..wide LOOP
                CONTINUE WHEN (mask >> c) & 1 = 0;
                IF flags & 16 <> 0 THEN
                    r := stored_real(d, at);
                    at := r.p_at;
                    now[4 * pos - 3 + c] := now[4 * pos - 3 + c] # r.bits;
                    CONTINUE;
                END IF;
                x := get_byte(d, at);
                at := at + 1;
                IF x > 127 THEN
                    y := CASE WHEN at < size THEN get_byte(d, at) END;
                    IF y < 128 THEN
                        x := (x & 127) | (y << 7);
                        at := at + 1;
                    ELSE
                        r := stored_varint(d, at - 1, size);
                        x := r.value;
                        at := r.p_at;
                    END IF;
                END IF;
                IF c < wide THEN
                    now[4 * pos - 3 + c] := now[4 * pos - 3 + c]
                        + (((x >> 1) & 9223372036854775807) # -(x & 1));
                ELSIF x = 1 THEN
                    r := stored_varint(d, at, size);
                    x := r.value;
                    at := r.p_at;
                    now[4 * pos - 3 + c] := now[4 * pos - 3 + c]
                        + (((x >> 1) & 9223372036854775807) # -(x & 1));
                ELSE
                    now[4 * pos - 3 + c] := now[4 * pos - 3 + c]
                        + (((x >> 2) & 4611686018427387903)
                            # -((x >> 1) & 1))
                        * CASE WHEN x & 1 = 0 THEN 1 ELSE 4096 END;
                END IF;
            END LOOP;
            IF wide = 3 AND flags & 23 = 7 THEN
                now[4 * pos - 1] := now[4 * pos - 3] - now[4 * pos - 2];
            END IF;
            id := ids[pos];
            IF id > 0 AND NOT p_end THEN
                v0 := now[4 * pos - 3];
                v1 := now[4 * pos - 2];
                v2 := now[4 * pos - 1];
                v3 := now[4 * pos];
                RETURN NEXT;
            END IF;
        END LOOP;
        IF at <> size THEN
            RAISE data_corrupted
                USING MESSAGE = 'stored table: values left over';
        END IF;
    END LOOP;
    IF p_end THEN
        FOR pos IN 1..n LOOP
            CONTINUE WHEN live[pos] <> 1 OR ids[pos] = 0;
            id := ids[pos];
            flags := all_flags[pos];
            v0 := now[4 * pos - 3];
            v1 := now[4 * pos - 2];
            v2 := now[4 * pos - 1];
            v3 := now[4 * pos];
            RETURN NEXT;
        END LOOP;
    END IF;
END $$;

-- A difference of doubles.
CREATE OR REPLACE FUNCTION poolscope_data.stored_real(
    p_bytes bytea, INOUT p_at integer, OUT bits bigint)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    head integer := get_byte(p_bytes, p_at);
    first integer := head >> 3;
    n integer := (head & 7) + 1;
BEGIN
    IF first + n > 8 OR p_at + n >= length(p_bytes) THEN
        RAISE data_corrupted USING MESSAGE = 'stored table: bad values';
    END IF;
    bits := 0;
    FOR i IN 1..n LOOP
        bits := bits
            | (get_byte(p_bytes, p_at + i)::bigint << (8 * (first + i - 1)));
    END LOOP;
    p_at := p_at + 1 + n;
END $$;

-- A tag's column from its bits; NULL where the flags lack p_bit.
CREATE OR REPLACE FUNCTION poolscope_data.stored_value(
    p_flags integer, p_bit integer, p_bits bigint)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN p_flags & p_bit = 0 THEN NULL
        WHEN p_flags & 16 = 0 THEN p_bits
        ELSE chunk_whole(p_bits) END;
END $$;

-- A counter's value from its bits; NULL where it is as good as absent: not
-- finite, or so large that sums are not.
CREATE OR REPLACE FUNCTION poolscope_data.stored_number(
    p_flags integer, p_bits bigint)
RETURNS double precision LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    number double precision;
BEGIN
    IF p_flags & 16 = 0 THEN
        RETURN p_bits;
    END IF;
    number := chunk_real(p_bits);
    RETURN CASE WHEN number BETWEEN -1e300 AND 1e300 THEN number END;
END $$;

-- The tags that there are after all rows.
CREATE OR REPLACE FUNCTION poolscope_data.stored_tags_state(
    p_rows bytea[], p_kinds smallint[])
RETURNS TABLE (id integer, flags integer, allocs bigint, frees bigint,
               outstanding bigint, bytes bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 3000
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT c.id, c.flags,
        CASE WHEN c.flags & 17 = 1 THEN c.v0
            ELSE stored_value(c.flags, 1, c.v0) END,
        CASE WHEN c.flags & 18 = 2 THEN c.v1
            ELSE stored_value(c.flags, 2, c.v1) END,
        CASE WHEN c.flags & 20 = 4 THEN c.v2
            ELSE stored_value(c.flags, 4, c.v2) END,
        CASE WHEN c.flags & 24 = 8 THEN c.v3
            ELSE stored_value(c.flags, 8, c.v3) END
    FROM stored_changes(4, p_rows, p_kinds, true) c;
END $$;

-- The counters there.
CREATE OR REPLACE FUNCTION poolscope_data.stored_counters_state(
    p_rows bytea[], p_kinds smallint[])
RETURNS TABLE (id integer, value double precision)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 300
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT c.id, x.value
    FROM stored_changes(1, p_rows, p_kinds, true) c,
        LATERAL (SELECT stored_number(c.flags, c.v0) OFFSET 0) x (value)
    WHERE x.value IS NOT NULL;
END $$;

-- How many varints there are from p_from to p_to; with p_bits how many of
-- the low p_bits bits of all of them are set. Counted in bit strings, which
-- takes nanoseconds a byte.
CREATE OR REPLACE FUNCTION poolscope_data.stored_count(
    p_bytes bytea, p_from integer, p_to integer, p_bits integer)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    size CONSTANT integer := p_to - p_from;
    all_bits varbit;
    lasts varbit;       -- the high bit of each varint's last byte
    firsts varbit;      -- … of its first byte
    total bigint := 0;
BEGIN
    IF size <= 0 THEN
        RETURN 0;
    END IF;
    all_bits := ('x' || encode(substr(p_bytes, p_from + 1, size), 'hex'))
        ::varbit;
    lasts := ~all_bits & ('x' || repeat('80', size))::varbit;
    IF p_bits = 0 THEN
        RETURN bit_count(lasts);
    END IF;
    firsts := set_bit(lasts >> 8, 0, 1);
    FOR b IN 0..p_bits - 1 LOOP
        total := total + bit_count(all_bits & (firsts >> (7 - b)));
    END LOOP;
    RETURN total;
END $$;

-- The end of the p_n-th varint from p_from on; p_to if there are fewer.
CREATE OR REPLACE FUNCTION poolscope_data.stored_skip(
    p_bytes bytea, p_from integer, p_to integer, p_n bigint)
RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    low integer := 0;
    high integer := p_to - p_from;
    middle integer;
    lasts varbit;
BEGIN
    IF high <= 0 OR p_n = 0 THEN
        RETURN p_from;
    END IF;
    lasts := ~('x' || encode(substr(p_bytes, p_from + 1, high), 'hex'))::varbit
        & ('x' || repeat('80', high))::varbit;
    WHILE low < high LOOP
        middle := (low + high) / 2;
        IF bit_count(substring(lasts FROM 1 FOR 8 * middle)) < p_n THEN
            low := middle + 1;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN p_from + low;
END $$;

-- Where a table's parts begin; names at the end of their count. NULL if it is
-- damaged.
CREATE OR REPLACE FUNCTION poolscope_data.stored_names(
    p_bytes bytea, OUT names bigint, OUT at integer)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    r record;
BEGIN
    IF length(p_bytes) < 2 OR get_byte(p_bytes, 0) <> 1 THEN
        RETURN;
    END IF;
    names := get_byte(p_bytes, 1);
    at := 2;
    IF names > 127 THEN
        r := stored_varint(p_bytes, 1, length(p_bytes));
        names := r.value;
        at := r.p_at;
    END IF;
END $$;

-- One tag after each row that leaves it there, without a look at the others'
-- values: only gaps are walked, and only up to that tag. good is false, and
-- nothing else is set, where that is not enough: there are doubles, escaped
-- amounts or damage.
CREATE OR REPLACE FUNCTION poolscope_data.stored_run(
    p_rows bytea[], p_kinds integer[], p_id integer, OUT good boolean,
    OUT rows integer[], OUT flags integer[], OUT a0 bigint[], OUT a1 bigint[],
    OUT a2 bigint[], OUT a3 bigint[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    d bytea;
    size integer;
    i integer := 0;
    n integer := 0;         -- names, and rows that are shown
    shown integer := 0;
    target integer := 0;    -- the tag's position from 1; 0: it is not there
    target_flags integer;
    has boolean;
    any_flags integer := 0;
    r record;
    at integer;
    gaps_at integer;
    gaps_end integer;
    bits integer;
    mask integer;
    each bigint;            -- values an entry; 1: the bits tell
    pos integer;
    x integer;
    y integer;
    value bigint;
    low bigint;             -- what the bytes before gave, of a long varint
    shift integer;
    v0 bigint;
    v1 bigint;
    v2 bigint;
    v3 bigint;
BEGIN
    good := false;
    FOR d IN SELECT u.b FROM unnest(p_rows) WITH ORDINALITY u (b, o) ORDER BY o
    LOOP
        i := i + 1;
        CONTINUE WHEN p_kinds[i] = 0;
        IF p_kinds[i] = 2 THEN
            n := 0;
            target := 0;
            has := false;
        END IF;
        size := length(d);
        r := stored_names(d);
        at := r.at;
        IF at IS NULL OR n + r.names > 32768 OR at + 2 * r.names > size THEN
            RETURN;
        END IF;
        FOR name IN n + 1 .. n + r.names LOOP
            x := get_byte(d, at + 1);
            IF x < 128 THEN
                y := get_byte(d, at);
                at := at + 2;
            ELSE
                y := get_byte(d, at + 2);
                IF y < 128 THEN
                    x := (x & 127) | (y << 7);
                    y := get_byte(d, at);
                    at := at + 3;
                ELSE
                    y := get_byte(d, at);
                    r := stored_varint(d, at + 1, size);
                    at := r.p_at;
                    IF r.value NOT BETWEEN 0 AND 2147483647 THEN
                        RETURN;
                    END IF;
                    x := r.value;
                END IF;
            END IF;
            any_flags := any_flags | y;
            IF x = p_id THEN
                IF target > 0 THEN
                    RETURN;
                END IF;
                target := name;
                target_flags := y;
                v0 := 0;
                v1 := 0;
                v2 := 0;
                v3 := 0;
            END IF;
            n := name;
        END LOOP;
        IF any_flags & 16 <> 0 THEN
            RETURN;
        END IF;
        CONTINUE WHEN target = 0;
        -- Has it vanished?
        IF size - at < 2 THEN
            RETURN;
        END IF;
        IF get_byte(d, at) = 0 THEN
            at := at + 1;
        ELSE
            r := stored_varint(d, at, size);
            at := r.p_at + r.value;
            pos := 0;
            FOREACH value IN ARRAY stored_varints(d, r.p_at, at) LOOP
                pos := pos + value + 1;
                IF pos = target THEN
                    has := false;
                    v0 := 0;
                    v1 := 0;
                    v2 := 0;
                    v3 := 0;
                END IF;
            END LOOP;
        END IF;
        r := stored_varint(d, at, size);
        gaps_at := r.p_at;
        IF r.value NOT BETWEEN 0 AND size - gaps_at THEN
            RETURN;
        END IF;
        gaps_end := gaps_at + r.value;
        -- Has it changed?
        pos := 0;
        IF gaps_end > gaps_at THEN
            mask := get_byte(d, gaps_at);
            bits := CASE WHEN mask > 15 THEN 0
                ELSE bit_count(mask::bit(4)) END;
            shift := 0;
            low := 0;
            at := gaps_at + 1;      -- where the entry's varint begins
            FOR a IN gaps_at + 1 .. gaps_end - 1 LOOP
                x := get_byte(d, a);
                IF x > 127 THEN
                    low := low | ((x & 127)::bigint << shift);
                    shift := shift + 7;
                    IF shift > 28 THEN
                        RETURN;
                    END IF;
                    CONTINUE;
                ELSIF shift > 0 THEN
                    low := low | (x::bigint << shift);
                    pos := pos + (low >> bits) + 1;
                    EXIT WHEN pos >= target;
                    shift := 0;
                    low := 0;
                ELSE
                    pos := pos + (x >> bits) + 1;
                    EXIT WHEN pos >= target;
                END IF;
                at := a + 1;
            END LOOP;
        END IF;
        IF pos = target THEN
            IF shift > 0 THEN
                x := low & 15;
            END IF;
            each := CASE bits WHEN 0 THEN bit_count((mask & 15)::bit(4))
                ELSE 1 END;
            IF mask > 31 OR stored_count(d, gaps_end, size, 0)
               <> each * stored_count(d, gaps_at + 1, gaps_end, bits) THEN
                RETURN;
            END IF;
            at := stored_skip(d, gaps_end, size,
                each * stored_count(d, gaps_at + 1, at, bits));
            mask := (stored_masks(mask))[(x & ((1 << bits) - 1)) + 1];
            IF mask & ~stored_sends(4, target_flags) <> 0 THEN
                RETURN;
            END IF;
            has := true;
            FOR c IN 0..3 LOOP
                CONTINUE WHEN (mask >> c) & 1 = 0;
                r := stored_varint(d, at, size);
                at := r.p_at;
                value := (r.value >> 1) & 9223372036854775807;
                IF c < 3 THEN
                    value := value # -(r.value & 1);
                    v0 := v0 + CASE c WHEN 0 THEN value ELSE 0 END;
                    v1 := v1 + CASE c WHEN 1 THEN value ELSE 0 END;
                    v2 := v2 + CASE c WHEN 2 THEN value ELSE 0 END;
                ELSE
                    v3 := v3 + ((value >> 1) # -(value & 1))
                        * CASE r.value & 1 WHEN 0 THEN 1 ELSE 4096 END;
                END IF;
            END LOOP;
            IF target_flags & 7 = 7 THEN
                v2 := v0 - v1;
            END IF;
        END IF;
        IF has THEN
            shown := shown + 1;
            rows[shown] := i;
            flags[shown] := target_flags;
            a0[shown] := v0;
            a1[shown] := v1;
            a2[shown] := v2;
            a3[shown] := v3;
        END IF;
    END LOOP;
    good := true;
END $$;

-- One id after each row that leaves it there.
CREATE OR REPLACE FUNCTION poolscope_data.stored_points(
    p_columns integer, p_rows bytea[], p_kinds smallint[], p_id integer)
RETURNS TABLE (i integer, flags integer, v0 bigint, v1 bigint, v2 bigint,
               v3 bigint)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 60 AS $$
DECLARE
    kinds integer[] := stored_kinds(p_rows, p_kinds);
    has boolean;
    run record;
    c record;
BEGIN
    IF p_id <= 0 THEN
        RETURN;
    END IF;
    IF p_columns = 4 THEN
        run := stored_run(p_rows, kinds, p_id);
        IF run.good THEN
            RETURN QUERY SELECT * FROM unnest(run.rows, run.flags, run.a0,
                                              run.a1, run.a2, run.a3);
            RETURN;
        END IF;
    END IF;
    FOR c IN
        SELECT k.i::integer, k.kind, x.present, x.flags, x.v0, x.v1, x.v2, x.v3
        FROM unnest(kinds) WITH ORDINALITY k (kind, i)
        LEFT JOIN (SELECT DISTINCT ON (s.i) s.*
            FROM stored_changes(p_columns, p_rows, p_kinds, false) s
            WHERE s.id = p_id) x ON x.i = k.i
        WHERE k.kind > 0
        ORDER BY k.i
    LOOP
        IF c.present IS NOT NULL THEN
            has := c.present;
            flags := c.flags;
            v0 := c.v0;
            v1 := c.v1;
            v2 := c.v2;
            v3 := c.v3;
        ELSIF c.kind = 2 THEN
            has := false;
        END IF;
        IF has THEN
            i := c.i;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION poolscope_data.stored_tag_points(
    p_rows bytea[], p_kinds smallint[], p_id integer)
RETURNS TABLE (i integer, flags integer, allocs bigint, frees bigint,
               outstanding bigint, bytes bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 60
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT p.i, p.flags,
        stored_value(p.flags, 1, p.v0), stored_value(p.flags, 2, p.v1),
        stored_value(p.flags, 4, p.v2), stored_value(p.flags, 8, p.v3)
    FROM stored_points(4, p_rows, p_kinds, p_id) p;
END $$;

CREATE OR REPLACE FUNCTION poolscope_data.stored_counter_points(
    p_rows bytea[], p_kinds smallint[], p_id integer)
RETURNS TABLE (i integer, value double precision)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 60
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT p.i, x.value
    FROM stored_points(1, p_rows, p_kinds, p_id) p,
        LATERAL (SELECT stored_number(p.flags, p.v0) OFFSET 0) x (value)
    WHERE x.value IS NOT NULL;
END $$;

-- How long each change held: from the k-th of the rows that count, for w of
-- them, all in hour run (an hour that comes back is another run).
CREATE OR REPLACE FUNCTION poolscope_data.stored_spans(
    p_columns integer, p_rows bytea[], p_kinds smallint[],
    p_ats timestamptz[])
RETURNS TABLE (hour timestamptz, run integer, k integer, w integer,
               first_at timestamptz, last_at timestamptz, id integer,
               flags integer, v0 bigint, v2 bigint, v3 bigint)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 30000 AS $$
DECLARE
    kinds integer[] := stored_kinds(p_rows, p_kinds);
    k_of integer[];             -- by row
    k_ends integer[];           -- by part: of the next one's first row
    ats timestamptz[];          -- by k, like runs
    runs integer[];
    run_from integer[];         -- the first k, by run; and one more
BEGIN
    IF cardinality(p_ats) <> cardinality(kinds) THEN
        RAISE data_corrupted
            USING MESSAGE = 'stored table: not a time for each row';
    END IF;
    SELECT array_agg(x.k ORDER BY x.i),
        array_agg(x.at ORDER BY x.i) FILTER (WHERE x.kind > 0),
        array_agg(x.k ORDER BY x.i) FILTER (WHERE x.kind = 2)
    INTO k_of, ats, k_ends
    FROM (SELECT u.i, u.kind, u.at, (count(*) FILTER (WHERE u.kind > 0)
              OVER (ORDER BY u.i))::integer AS k
          FROM unnest(kinds, p_ats) WITH ORDINALITY u (kind, at, i)) x;
    IF ats IS NULL THEN
        RETURN;
    ELSIF array_position(ats, NULL) IS NOT NULL THEN
        RAISE data_corrupted
            USING MESSAGE = 'stored table: a row without a time';
    END IF;
    k_ends := k_ends[2:] || (cardinality(ats) + 1);
    SELECT array_agg(y.run ORDER BY y.k),
        array_agg(y.k ORDER BY y.k) FILTER (WHERE y.begins = 1)
            || (cardinality(ats) + 1)
    INTO runs, run_from
    FROM (SELECT x.k, x.begins,
              (sum(x.begins) OVER (ORDER BY x.k))::integer AS run
          FROM (SELECT u.k::integer,
                    CASE WHEN date_trunc('hour', u.at, 'UTC') = lag(
                        date_trunc('hour', u.at, 'UTC')) OVER (ORDER BY u.k)
                    THEN 0 ELSE 1 END AS begins
                FROM unnest(ats) WITH ORDINALITY u (at, k)) x) y;
    RETURN QUERY
    SELECT date_trunc('hour', ats[b.low], 'UTC'), g.run, b.low,
        b.high - b.low, ats[b.low], ats[b.high - 1], s.id, s.flags,
        s.v0, s.v2, s.v3
    FROM (
        SELECT c.*, k_of[c.i] AS low, lead(k_of[c.i], 1, k_ends[c.part])
            OVER (PARTITION BY c.id, c.part ORDER BY c.i) AS high
        FROM stored_changes(p_columns, p_rows, p_kinds, false) c
    ) s
    CROSS JOIN LATERAL generate_series(runs[s.low], runs[s.high - 1]) g (run)
    CROSS JOIN LATERAL (SELECT greatest(s.low, run_from[g.run]),
                            least(s.high, run_from[g.run + 1])) b (low, high)
    WHERE s.present;
END $$;

-- Each tag's hours: statistics over the snapshots that have it, each once.
CREATE OR REPLACE FUNCTION poolscope_data.stored_tag_hours(
    p_rows bytea[], p_kinds smallint[], p_ats timestamptz[])
RETURNS TABLE (hour timestamptz, id integer, n bigint, first_at timestamptz,
               last_at timestamptz, first_bytes bigint, last_bytes bigint,
               min_bytes bigint, max_bytes bigint, sum_bytes numeric,
               last_outstanding bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 3000
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT min(x.hour), x.id, sum(x.w)::bigint,
        (array_agg(x.first_at ORDER BY x.k))[1],
        (array_agg(x.last_at ORDER BY x.k DESC))[1],
        (array_agg(x.bytes ORDER BY x.k))[1],
        (array_agg(x.bytes ORDER BY x.k DESC))[1],
        min(x.bytes), max(x.bytes), sum(x.bytes::numeric * x.w),
        (array_agg(x.outstanding ORDER BY x.k DESC))[1]
    FROM (SELECT s.*, CASE WHEN s.flags & 24 = 8 THEN s.v3
              ELSE stored_value(s.flags, 8, s.v3) END AS bytes,
              CASE WHEN s.flags & 20 = 4 THEN s.v2
              ELSE stored_value(s.flags, 4, s.v2) END AS outstanding
          FROM stored_spans(4, p_rows, p_kinds, p_ats) s OFFSET 0) x
    GROUP BY x.run, x.id;
END $$;

CREATE OR REPLACE FUNCTION poolscope_data.stored_counter_hours(
    p_rows bytea[], p_kinds smallint[], p_ats timestamptz[])
RETURNS TABLE (hour timestamptz, id integer, n bigint, first_at timestamptz,
               last_at timestamptz, first_value double precision,
               last_value double precision, min_value double precision,
               max_value double precision, sum_value double precision)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 300
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT min(x.hour), x.id, sum(x.w)::bigint,
        (array_agg(x.first_at ORDER BY x.k))[1],
        (array_agg(x.last_at ORDER BY x.k DESC))[1],
        (array_agg(x.value ORDER BY x.k))[1],
        (array_agg(x.value ORDER BY x.k DESC))[1],
        min(x.value), max(x.value), sum(x.value * x.w ORDER BY x.k)
    FROM (SELECT s.*, stored_number(s.flags, s.v0) AS value
          FROM stored_spans(1, p_rows, p_kinds, p_ats) s OFFSET 0) x
    WHERE x.value IS NOT NULL
    GROUP BY x.run, x.id;
END $$;

-- --- chunks -----------------------------------------------------------------

-- Where the blocks are, and which ids may be in each.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_blocks(p_head bytea)
RETURNS TABLE (block integer, first_id integer, last_id integer,
               levels_from integer, levels_length integer,
               data_from integer, data_length integer)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 90
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c poolscope_data.chunk_head := chunk_open(p_head, 0);
    slice record;
    next record;
BEGIN
    FOR b IN 0..c.blocks - 1 LOOP
        slice := CASE b WHEN 0 THEN chunk_slice(c, 0) ELSE next END;
        last_id := 2147483647;
        IF b < c.blocks - 1 THEN
            next := chunk_slice(c, b + 1);
            last_id := next.first_id - 1;
        END IF;
        block := b;
        first_id := slice.first_id;
        levels_from := slice.levels_at + 1;
        levels_length := slice.levels_length;
        data_from := slice.data_at + 1;
        data_length := slice.data_length;
        RETURN NEXT;
    END LOOP;
END $$;

-- All entries of a block at each snapshot that has them. run counts hours: one
-- that comes back is another run.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_block_points(
    p_columns integer, p_head bytea, p_levels bytea, p_data bytea,
    p_block integer)
RETURNS TABLE (run integer, snapshot integer, at timestamptz, id integer,
               outstanding bigint, bytes bigint, value double precision)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 2000 AS $$
DECLARE
    c poolscope_data.chunk_head := chunk_open(p_head, p_columns);
    b poolscope_data.chunk_block;
    t record;
    ats timestamptz[];
    runs integer[];
BEGIN
    IF p_block NOT BETWEEN 0 AND c.blocks - 1 THEN
        RAISE invalid_parameter_value
            USING MESSAGE = 'chunk: it has no such block';
    END IF;
    b := chunk_block_open(c, chunk_slice(c, p_block), p_levels, p_data);
    t := chunk_times(c);
    SELECT array_agg(y.at ORDER BY y.i), array_agg(y.run ORDER BY y.i)
    INTO ats, runs
    FROM (SELECT x.i, x.at, (sum(CASE WHEN date_trunc('hour', x.at, 'UTC')
              = lag_at THEN 0 ELSE 1 END) OVER (ORDER BY x.i))::integer AS run
          FROM (SELECT u.i, u.at, lag(date_trunc('hour', u.at, 'UTC'))
                    OVER (ORDER BY u.i) AS lag_at
                FROM (SELECT v.i, chunk_time(v.at) AS at
                      FROM unnest(t.at_us) WITH ORDINALITY v (at, i)) u) x) y;
    RETURN QUERY
    SELECT runs[e.snapshot + 1], e.snapshot, ats[e.snapshot + 1], e.id,
        e.outstanding, e.bytes, e.value
    FROM (SELECT DISTINCT unnest(b.ids)) i (id),
        chunk_entries(c, b, i.id) e;
END $$;

-- The hours of a block's tags, as stored_tag_hours() tells those of rows.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_tag_hours(
    p_head bytea, p_levels bytea, p_data bytea, p_block integer)
RETURNS TABLE (hour timestamptz, id integer, n bigint, first_at timestamptz,
               last_at timestamptz, first_bytes bigint, last_bytes bigint,
               min_bytes bigint, max_bytes bigint, sum_bytes numeric,
               last_outstanding bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 32
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT date_trunc('hour', (array_agg(x.at))[1], 'UTC'), x.id, count(*),
        (array_agg(x.at ORDER BY x.snapshot))[1],
        (array_agg(x.at ORDER BY x.snapshot DESC))[1],
        (array_agg(x.bytes ORDER BY x.snapshot))[1],
        (array_agg(x.bytes ORDER BY x.snapshot DESC))[1],
        min(x.bytes), max(x.bytes), sum(x.bytes),
        (array_agg(x.outstanding ORDER BY x.snapshot DESC))[1]
    FROM chunk_block_points(4, p_head, p_levels, p_data, p_block) x
    GROUP BY x.run, x.id;
END $$;

CREATE OR REPLACE FUNCTION poolscope_data.chunk_counter_hours(
    p_head bytea, p_levels bytea, p_data bytea, p_block integer)
RETURNS TABLE (hour timestamptz, id integer, n bigint, first_at timestamptz,
               last_at timestamptz, first_value double precision,
               last_value double precision, min_value double precision,
               max_value double precision, sum_value double precision)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 32
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT date_trunc('hour', (array_agg(x.at))[1], 'UTC'), x.id, count(*),
        (array_agg(x.at ORDER BY x.snapshot))[1],
        (array_agg(x.at ORDER BY x.snapshot DESC))[1],
        (array_agg(x.value ORDER BY x.snapshot))[1],
        (array_agg(x.value ORDER BY x.snapshot DESC))[1],
        min(x.value), max(x.value), sum(x.value ORDER BY x.snapshot)
    FROM chunk_block_points(1, p_head, p_levels, p_data, p_block) x
    WHERE x.value BETWEEN -1e300 AND 1e300
    GROUP BY x.run, x.id;
END $$;

-- The tags of a chunk at its snapshot p_i, counted from 0: what chunk_end()
-- tells of the last one.
CREATE OR REPLACE FUNCTION poolscope_data.chunk_state(
    p_head bytea, p_levels bytea, p_data bytea, p_i integer)
RETURNS TABLE (id integer, flags integer, allocs bigint,
               frees bigint, outstanding bigint, bytes bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 3000
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c poolscope_data.chunk_head := chunk_open(p_head, 4);
BEGIN
    IF p_i NOT BETWEEN 0 AND c.snapshots - 1 THEN
        RAISE invalid_parameter_value
            USING MESSAGE = 'chunk: it has no such snapshot';
    END IF;
    RETURN QUERY
    SELECT e.id, e.flags, e.allocs, e.frees, e.outstanding, e.bytes
    FROM chunk_blocks(c, p_levels, p_data) b
    CROSS JOIN LATERAL (SELECT DISTINCT unnest(b.ids)) i (id)
    CROSS JOIN LATERAL chunk_entries(c, b, i.id) e
    WHERE e.snapshot = p_i;
END $$;

-- A block of a summary of tags, whose slices chunk_blocks() names: each tag at
-- each hour (or day) that has it.
CREATE OR REPLACE FUNCTION poolscope_data.summary_tag_rows(
    p_head bytea, p_levels bytea, p_data bytea, p_block integer)
RETURNS TABLE (at timestamptz, id integer, first_bytes bigint,
               last_bytes bigint, min_bytes bigint, max_bytes bigint,
               mean_bytes bigint, last_outstanding bigint)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 400
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    c poolscope_data.chunk_head := chunk_open(p_head, 4);
    b poolscope_data.chunk_block;
    t record;
BEGIN
    IF p_block NOT BETWEEN 0 AND c.blocks - 1 THEN
        RAISE invalid_parameter_value
            USING MESSAGE = 'chunk: it has no such block';
    END IF;
    b := chunk_block_open(c, chunk_slice(c, p_block), p_levels, p_data);
    t := chunk_times(c);
    RETURN QUERY
    SELECT chunk_time(t.at_us[e.snapshot + 1]), e.id / 2,
        max(e.allocs) FILTER (WHERE e.id % 2 = 1),
        max(e.bytes) FILTER (WHERE e.id % 2 = 0),
        max(e.allocs) FILTER (WHERE e.id % 2 = 0),
        max(e.bytes) FILTER (WHERE e.id % 2 = 1),
        max(e.outstanding) FILTER (WHERE e.id % 2 = 1),
        max(e.outstanding) FILTER (WHERE e.id % 2 = 0)
    FROM (SELECT DISTINCT unnest(b.ids)) i (id),
        chunk_entries(c, b, i.id) e
    GROUP BY e.snapshot, e.id / 2;
END $$;

GRANT EXECUTE ON FUNCTION
    poolscope_data.stored_tags_state(bytea[], smallint[]),
    poolscope_data.stored_counters_state(bytea[], smallint[]),
    poolscope_data.stored_tag_points(bytea[], smallint[], integer),
    poolscope_data.stored_counter_points(bytea[], smallint[], integer),
    poolscope_data.stored_tag_hours(bytea[], smallint[], timestamptz[]),
    poolscope_data.stored_counter_hours(bytea[], smallint[], timestamptz[]),
    poolscope_data.chunk_blocks(bytea),
    poolscope_data.chunk_tag_hours(bytea, bytea, bytea, integer),
    poolscope_data.chunk_counter_hours(bytea, bytea, bytea, integer),
    poolscope_data.chunk_state(bytea, bytea, bytea, integer),
    poolscope_data.summary_tag_rows(bytea, bytea, bytea, integer)
    TO poolscope_reader, poolscope_writer;
