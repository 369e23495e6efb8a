-- Blocks and entries of chunks, for 013_chunk.sql. See 011_chunk_parts.sql.

-- An opened block. Arrays have an element an entry; starts and defaults have
-- parameters of slots 0 to 3.
CREATE TYPE poolscope_data.chunk_block AS (
    ids integer[],
    flags integer[],
    slots integer[],        -- which are stored: 1 << slot
    present boolean[],      -- at the run's first snapshot
    levels bigint[],        -- slot 3 there; 0 if there is none
    data bytea,             -- padded
    ends integer[],         -- of the entries' bits
    area integer,           -- where those begin
    starts integer[],
    defaults integer[]
);

-- The slots of an entry.
CREATE FUNCTION poolscope_data.chunk_slots(p_columns integer, p_flags integer)
RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN p_columns = 1 THEN 8
        WHEN p_flags & 19 = 3 THEN p_flags & 11
        ELSE p_flags & 15 END;
END $$;

-- Flags, slots and presence of p_n entries.
CREATE FUNCTION poolscope_data.chunk_take_flags(
    p_c poolscope_data.chunk_head, p_bytes bytea, INOUT p_at integer,
    p_n integer, INOUT b poolscope_data.chunk_block)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    n_flags integer := chunk_bits(p_bytes, p_at, 5) + 1;
    width integer := chunk_width(n_flags - 1);
    each_flags integer[] := '{}';
    each_slots integer[] := '{}';
    flags integer[];
    slots integer[];
    present boolean[] := array_fill(true, ARRAY[p_n]);
    w bigint;
    place integer;
BEGIN
    p_at := p_at + 5;
    FOR i IN 1..n_flags LOOP
        each_flags[i] := chunk_bits(p_bytes, p_at, 8);
        each_slots[i] := chunk_slots(p_c.columns, each_flags[i]);
        p_at := p_at + 8;
    END LOOP;
    flags := array_fill(each_flags[1], ARRAY[p_n]);
    slots := array_fill(each_slots[1], ARRAY[p_n]);
    FOR i IN 0..CASE WHEN n_flags > 1 THEN p_n - 1 ELSE -1 END LOOP
        IF i % 6 = 0 THEN
            w := chunk_bits(p_bytes, p_at + i * width, 6 * width);
        END IF;
        place := (w >> ((5 - i % 6) * width)) & ((1 << width) - 1);
        IF place >= n_flags THEN
            RAISE data_corrupted USING MESSAGE = 'chunk: bad levels';
        END IF;
        flags[i + 1] := each_flags[place + 1];
        slots[i + 1] := each_slots[place + 1];
    END LOOP;
    p_at := p_at + width * p_n;
    IF chunk_bits(p_bytes, p_at, 1) = 0 THEN
        w := chunk_bits(p_bytes, p_at + 1, 32);
        FOR i IN 1..p_n LOOP
            present[i] := (w >> (32 - i)) & 1 = 1;
        END LOOP;
        p_at := p_at + p_n;
    END IF;
    p_at := p_at + 1;
    b.flags := flags;
    b.slots := slots;
    b.present := present;
END $$;

-- The levels of those that are present and have one.
CREATE FUNCTION poolscope_data.chunk_take_levels(
    p_bytes bytea, INOUT p_at integer, p_n integer,
    INOUT b poolscope_data.chunk_block)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    levels bigint[] := array_fill(0::bigint, ARRAY[p_n]);
    params integer[] := ARRAY[0, 0, 0, 0, 0, 0]; -- integers', doubles'
    kinds integer := 0;     -- 1: there are integers, 2: doubles
    having_ integer[] := '{}';
    r record;
    v bigint[];
    j integer;
BEGIN
    FOR i IN 1..p_n LOOP
        kinds := kinds | CASE WHEN b.flags[i] & 16 = 0 THEN 1 ELSE 2 END;
        IF b.present[i] AND b.slots[i] & 8 <> 0 THEN
            having_ := having_ || i;
        END IF;
    END LOOP;
    FOR kind IN 0..1 LOOP
        CONTINUE WHEN (kinds >> kind) & 1 = 0;
        r := chunk_params(p_bytes, p_at);
        p_at := r.p_at;
        params[3 * kind + 1 : 3 * kind + 3] := r.params;
    END LOOP;
    IF 1 IN (params[1], params[4]) THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: bad levels';
    END IF;
    IF kinds = 3 THEN
        -- Each by its own, in turns that follow the flags.
        v := '{}';
        FOREACH j IN ARRAY having_ LOOP
            r := chunk_numbers(p_bytes, p_at,
                CASE WHEN b.flags[j] & 16 = 0 THEN params[1:3]
                     ELSE params[4:6] END, 1);
            p_at := r.p_at;
            v := v || r.numbers;
        END LOOP;
    ELSE
        r := chunk_numbers(p_bytes, p_at,
            CASE kinds WHEN 1 THEN params[1:3] ELSE params[4:6] END,
            cardinality(having_));
        p_at := r.p_at;
        v := r.numbers;
    END IF;
    FOR i IN 1..cardinality(having_) LOOP
        j := having_[i];
        levels[j] := v[i];
        IF b.flags[j] & 16 = 0
           AND (v[i] >= 4611686018427387904 OR v[i] <= -4611686018427387904)
        THEN
            RAISE data_corrupted USING MESSAGE = 'chunk: bad levels';
        END IF;
    END LOOP;
    b.levels := levels;
END $$;

-- What the data tell about the block as a whole.
CREATE FUNCTION poolscope_data.chunk_take_data(
    p_n integer, INOUT b poolscope_data.chunk_block)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    at integer := 0;
    bits integer := 8 * (length(b.data) - 12);
    r record;
    v bigint[];
    slots integer := 0;
    integers integer := 0;
    modes integer[];
    starts integer[] := array_fill(0, ARRAY[12]);
    defaults integer[] := starts;
    ends integer[] := '{}';
BEGIN
    r := chunk_params(b.data, at);
    modes := r.params[1:1];
    r := chunk_numbers(b.data, r.p_at, r.params, p_n);
    at := r.p_at;
    v := r.numbers;
    FOR i IN 1..p_n LOOP
        slots := slots | b.slots[i];
        IF b.flags[i] & 16 = 0 THEN
            integers := integers | b.slots[i];
        END IF;
    END LOOP;
    FOR slot IN 0..6 LOOP
        CONTINUE WHEN (((slots & 7) | (integers << 3)) >> slot) & 1 = 0;
        r := chunk_params(b.data, at);
        at := r.p_at;
        modes := modes || r.params[1];
        IF slot < 3 THEN
            starts[3 * slot + 1 : 3 * slot + 3] := r.params;
        ELSE
            defaults[3 * slot - 8 : 3 * slot - 6] := r.params;
        END IF;
    END LOOP;
    at := (at + 7) / 8 * 8;
    b.area := at;
    FOR i IN 1..p_n LOOP
        IF v[i] < 0 OR v[i] > bits - at THEN
            RAISE data_corrupted USING MESSAGE = 'chunk: bad data';
        END IF;
        at := at + v[i];
        ends[i] := at;
    END LOOP;
    IF 1 = ANY (modes) OR at > bits THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: bad data';
    END IF;
    b.starts := starts;
    b.defaults := defaults;
    b.ends := ends;
END $$;

-- Open a block by the bytes of its slices; p_data NULL: only the levels.
CREATE FUNCTION poolscope_data.chunk_block_open(
    p_c poolscope_data.chunk_head, p_slice record, p_levels bytea,
    p_data bytea)
RETURNS poolscope_data.chunk_block
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    levels bytea := p_levels || '\x0000000000000000'::bytea;
    b poolscope_data.chunk_block;
    n integer := chunk_bits(p_levels, 0, 5) + 1;
    r record;
    v bigint[];
    id bigint := p_slice.first_id;
    ids integer[] := ARRAY[id::integer];
BEGIN
    IF length(p_levels) <> p_slice.levels_length
       OR NOT chunk_sealed(p_levels, p_c.seal) THEN
        RAISE data_corrupted
            USING MESSAGE = 'chunk: the checksum of its levels is wrong';
    ELSIF length(p_data) <> p_slice.data_length
          OR NOT chunk_sealed(p_data, p_c.seal) THEN
        RAISE data_corrupted
            USING MESSAGE = 'chunk: the checksum of its data is wrong';
    END IF;
    r := chunk_params(levels, 5);
    r := chunk_numbers(levels, r.p_at, r.params, n - 1);
    v := r.numbers;
    FOR i IN 2..n LOOP
        IF v[i - 1] < 0 OR v[i - 1] > 2147483647 - id THEN
            RAISE data_corrupted USING MESSAGE = 'chunk: bad levels';
        END IF;
        id := id + v[i - 1];
        ids[i] := id;
    END LOOP;
    b.ids := ids;
    r := chunk_take_flags(p_c, levels, r.p_at, n, b);
    r := chunk_take_levels(levels, r.p_at, n, r.b);
    IF r.p_at > 8 * (length(p_levels) - 4) THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: bad levels';
    END IF;
    b := r.b;
    IF p_data IS NULL THEN
        RETURN b;
    END IF;
    b.data := p_data || '\x0000000000000000'::bytea;
    RETURN chunk_take_data(n, b);
END $$;

-- The snapshots that change an entry, in order; p_last is the run's last one.
CREATE FUNCTION poolscope_data.chunk_take_changes(
    p_bytes bytea, INOUT p_at integer, p_last integer, OUT changes integer[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    form integer := chunk_bits(p_bytes, p_at, 2);
    width integer := chunk_width(p_last);
    n integer;
    w bigint;
    v bigint[];
    r record;
    behind bigint := 0;
BEGIN
    changes := '{}';
    p_at := p_at + 2;
    IF form = 0 THEN
        FOR s IN 0..p_last - 1 LOOP
            IF s % 32 = 0 THEN
                w := chunk_bits(p_bytes, p_at + s, 32);
            END IF;
            IF (w >> (31 - s % 32)) & 1 = 1 THEN
                changes := changes || (s + 1);
            END IF;
        END LOOP;
        p_at := p_at + p_last;
        RETURN;
    END IF;
    n := chunk_bits(p_bytes, p_at, width);
    r := chunk_numbers(p_bytes, p_at + width + 3,
        ARRAY[2, chunk_bits(p_bytes, p_at + width, 3)::integer, 0], n);
    p_at := r.p_at;
    v := r.numbers;
    FOR i IN 1..n LOOP
        IF v[i] < 0 OR behind + 1 + v[i] > p_last OR form = 3 THEN
            RAISE data_corrupted USING MESSAGE = 'chunk: bad data';
        END IF;
        IF form = 2 THEN
            FOR s IN behind + 1 .. behind + v[i] LOOP
                changes := changes || s;
            END LOOP;
        ELSE
            changes := changes || (behind + 1 + v[i])::integer;
        END IF;
        behind := behind + 1 + v[i];
    END LOOP;
    FOR s IN behind + 1 .. CASE form WHEN 2 THEN p_last ELSE 0 END LOOP
        changes := changes || s;
    END LOOP;
END $$;

-- An opened entry: its state at the start, and what is stored of changes.
CREATE TYPE poolscope_data.chunk_entry AS (
    at integer,             -- where the changes' numbers begin
    state bigint[],         -- by slot
    changes integer[],
    absences boolean,
    predictor integer,      -- the slot that predicts bytes, -1: none
    size bigint,            -- bytes an object
    params integer[]        -- of all its slots, in order
);

-- Entry p_i of p_b.
CREATE FUNCTION poolscope_data.chunk_entry_open(
    p_columns integer, p_last integer, p_b poolscope_data.chunk_block,
    p_i integer)
RETURNS poolscope_data.chunk_entry
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    d CONSTANT bytea := p_b.data;
    slots CONSTANT integer := p_b.slots[p_i];
    flags CONSTANT integer := p_b.flags[p_i];
    at integer := CASE p_i WHEN 1 THEN p_b.area ELSE p_b.ends[p_i - 1] END;
    e poolscope_data.chunk_entry;
    state bigint[] := ARRAY[0, 0, 0, p_b.levels[p_i]];
    params integer[] := '{}';
    r record;
BEGIN
    FOR slot IN 0..CASE WHEN p_b.present[p_i] THEN 2 ELSE -1 END LOOP
        CONTINUE WHEN (slots >> slot) & 1 = 0;
        r := chunk_numbers(d, at, p_b.starts[3 * slot + 1 : 3 * slot + 3], 1);
        at := r.p_at;
        state[slot + 1] := r.numbers[1];
    END LOOP;
    e.state := state;
    e.changes := '{}';
    e.absences := false;
    e.predictor := CASE WHEN p_columns = 1 OR flags & 24 <> 8 THEN -1
        WHEN flags & 3 = 3 THEN 1 WHEN flags & 4 <> 0 THEN 2 ELSE -1 END;
    e.at := at + 1;
    IF (get_byte(d, at >> 3) >> (7 - (at & 7))) & 1 = 0 THEN
        RETURN e;
    END IF;
    e.absences := chunk_bits(d, at + 1, 1) = 1;
    IF NOT (p_b.present[p_i] OR e.absences) THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: bad data';
    END IF;
    r := chunk_take_changes(d, at + 2, p_last);
    at := r.p_at;
    e.changes := r.changes;
    e.size := 0;
    IF e.predictor >= 0 THEN
        IF chunk_bits(d, at, 1) = 1 AND p_b.present[p_i]
           AND state[e.predictor + 1] > 0 AND state[4] > 0 THEN
            e.size := (state[4] + state[e.predictor + 1] / 2)
                / state[e.predictor + 1];
            e.size := CASE WHEN e.size < 2147483648 THEN e.size ELSE 0 END;
        END IF;
        at := at + 1;
    END IF;
    FOR slot IN 0..3 LOOP
        CONTINUE WHEN (slots >> slot) & 1 = 0;
        r := chunk_params(d, at);
        at := r.p_at;
        IF r.params[1] = 1 THEN
            IF flags & 16 <> 0 THEN
                RAISE data_corrupted USING MESSAGE = 'chunk: bad data';
            END IF;
            params := params || p_b.defaults[3 * slot + 1 : 3 * slot + 3];
        ELSE
            params := params || r.params;
        END IF;
    END LOOP;
    e.params := params;
    e.at := at;
    RETURN e;
END $$;

-- The entries of a block: of p_id at each snapshot that has it, in order of
-- entry, then snapshot; with p_id NULL all that are there at the last one.
-- Columns that its flags lack are NULL; value is a counter's.
CREATE FUNCTION poolscope_data.chunk_entries(
    p_c poolscope_data.chunk_head, p_b poolscope_data.chunk_block,
    p_id integer)
RETURNS TABLE (id integer, snapshot integer, flags integer, allocs bigint,
               frees bigint, outstanding bigint, bytes bigint,
               value double precision)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 60 AS $$
DECLARE
    limit_ CONSTANT bigint := 4611686018427387904;
    last CONSTANT integer := p_c.snapshots - 1;
    e poolscope_data.chunk_entry;
    slots integer;
    n_slots integer;
    of_doubles boolean;
    derives boolean;
    present boolean;
    s0 bigint;
    s1 bigint;
    s2 bigint;
    s3 bigint;
    at integer;
    changes integer[];
    n_changes integer;
    r record;
    v bigint[];
    i integer;      -- in v
    until integer;
    -- Where entries of p_id were, if it has several.
    taken boolean[] := CASE
        WHEN cardinality(array_positions(p_b.ids, p_id)) > 1 THEN '{}' END;
    last_id integer := 0;
BEGIN
    FOR j IN 1..cardinality(p_b.ids) LOOP
        id := p_b.ids[j];
        CONTINUE WHEN id <> p_id;
        slots := p_b.slots[j];
        flags := p_b.flags[j];
        of_doubles := flags & 16 <> 0;
        derives := p_c.columns = 4 AND flags & 19 = 3;
        present := p_b.present[j];
        e := chunk_entry_open(p_c.columns, last, p_b, j);
        at := e.at;
        changes := e.changes;
        n_changes := cardinality(changes);
        n_slots := cardinality(e.params) / 3;
        s0 := e.state[1];
        s1 := e.state[2];
        s2 := e.state[3];
        s3 := e.state[4];
        IF n_changes > 0 AND NOT e.absences THEN
            r := chunk_numbers(p_b.data, at, e.params, n_changes * n_slots);
            at := r.p_at;
            v := r.numbers;
        END IF;
        i := 0;
        snapshot := 0;
        FOR k IN 1..n_changes + 1 LOOP
            IF NOT of_doubles AND (greatest(s0, s1, s2, s3, s0 - s1) >= limit_
                             OR least(s0, s1, s2, s3) <= -limit_
                             OR derives AND s0 - s1 <= -limit_) THEN
                RAISE data_corrupted USING MESSAGE = 'chunk: bad data';
            END IF;
            until := CASE WHEN k > n_changes THEN last + 1 ELSE changes[k] END;
            IF present AND (p_id IS NOT NULL OR until > last) THEN
                IF p_c.columns = 1 THEN
                    value := CASE WHEN of_doubles THEN chunk_real(s3) ELSE s3 END;
                ELSIF of_doubles THEN
                    allocs := chunk_whole(CASE WHEN flags & 1 <> 0 THEN s0 END);
                    frees := chunk_whole(CASE WHEN flags & 2 <> 0 THEN s1 END);
                    outstanding := chunk_whole(
                        CASE WHEN flags & 4 <> 0 THEN s2 END);
                    bytes := chunk_whole(CASE WHEN flags & 8 <> 0 THEN s3 END);
                ELSE
                    allocs := CASE WHEN flags & 1 <> 0 THEN s0 END;
                    frees := CASE WHEN derives THEN s0 - s1
                        WHEN flags & 2 <> 0 THEN s1 END;
                    outstanding := CASE WHEN flags & 4 = 0 THEN NULL
                        WHEN derives THEN s1 ELSE s2 END;
                    bytes := CASE WHEN flags & 8 <> 0 THEN s3 END;
                END IF;
                IF p_id IS NULL THEN
                    IF id <= last_id THEN
                        RAISE data_corrupted USING MESSAGE =
                            'chunk: an id has two entries at one snapshot';
                    END IF;
                    last_id := id;
                    snapshot := last;
                END IF;
                WHILE snapshot < until LOOP
                    IF taken[snapshot] THEN
                        RAISE data_corrupted USING MESSAGE =
                            'chunk: an id has two entries at one snapshot';
                    ELSIF taken IS NOT NULL THEN
                        taken[snapshot] := true;
                    END IF;
                    RETURN NEXT;
                    snapshot := snapshot + 1;
                END LOOP;
            END IF;
            EXIT WHEN k > n_changes;
            snapshot := until;
            present := true;
            IF e.absences THEN
                present := (get_byte(p_b.data, at >> 3) >> (7 - (at & 7))) & 1
                    = 1;
                at := at + 1;
                CONTINUE WHEN NOT present;
                r := chunk_numbers(p_b.data, at, e.params, n_slots);
                at := r.p_at;
                v := r.numbers;
                i := 0;
            END IF;
            IF of_doubles THEN
                s0 := s0 # CASE WHEN slots & 1 <> 0 THEN v[i + 1] ELSE 0 END;
                i := i + (slots & 1);
                s1 := s1 # CASE WHEN slots & 2 <> 0 THEN v[i + 1] ELSE 0 END;
                i := i + ((slots >> 1) & 1);
                s2 := s2 # CASE WHEN slots & 4 <> 0 THEN v[i + 1] ELSE 0 END;
                i := i + ((slots >> 2) & 1);
                s3 := s3 # CASE WHEN slots & 8 <> 0 THEN v[i + 1] ELSE 0 END;
                i := i + (slots >> 3);
                CONTINUE;
            END IF;
            IF slots & 1 <> 0 THEN
                i := i + 1;
                s0 := s0 + v[i];
            END IF;
            IF slots & 2 <> 0 THEN
                i := i + 1;
                s1 := s1 + v[i];
            END IF;
            IF slots & 4 <> 0 THEN
                i := i + 1;
                s2 := s2 + v[i];
            END IF;
            IF slots & 8 <> 0 THEN
                i := i + 1;
                s3 := s3 + v[i];
                IF e.size > 0 THEN
                    -- Outstanding is the slot just before.
                    s3 := s3 + v[i - 1] * e.size;
                END IF;
            END IF;
        END LOOP;
        IF at <> p_b.ends[j] THEN
            RAISE data_corrupted USING MESSAGE = 'chunk: bad data';
        END IF;
    END LOOP;
END $$;

-- All blocks of a chunk, opened; p_data NULL: for their levels. The sections
-- must end where the index says.
CREATE FUNCTION poolscope_data.chunk_blocks(
    p_c poolscope_data.chunk_head, p_levels bytea, p_data bytea)
RETURNS SETOF poolscope_data.chunk_block
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 100 AS $$
DECLARE
    levels CONSTANT bytea := p_levels || ''::bytea; -- at hand, not toasted
    data CONSTANT bytea := p_data || ''::bytea;
    b poolscope_data.chunk_block;
    slice record;
    levels_end bigint := 0;
    data_end bigint := 0;
    last_id integer := 0;
BEGIN
    FOR block IN 0..p_c.blocks - 1 LOOP
        slice := chunk_slice(p_c, block);
        b := chunk_block_open(p_c, slice,
            substr(levels, slice.levels_at::integer + 1,
                   slice.levels_length::integer),
            substr(data, slice.data_at::integer + 1,
                   slice.data_length::integer));
        IF slice.first_id <= last_id THEN
            RAISE data_corrupted USING MESSAGE = 'chunk: bad index';
        END IF;
        last_id := b.ids[cardinality(b.ids)];
        levels_end := slice.levels_at + slice.levels_length;
        data_end := slice.data_at + slice.data_length;
        RETURN NEXT b;
    END LOOP;
    IF levels_end <> length(levels) OR data_end <> length(data) THEN
        RAISE data_corrupted
            USING MESSAGE = 'chunk: there is more than the index says';
    END IF;
END $$;

-- The entries that are there at the run's first snapshot.
CREATE FUNCTION poolscope_data.chunk_starts(
    p_c poolscope_data.chunk_head, p_levels bytea)
RETURNS TABLE (id integer, flags integer, level bigint)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 3000 AS $$
DECLARE
    b poolscope_data.chunk_block;
    last_id integer := 0;
BEGIN
    FOR b IN SELECT * FROM chunk_blocks(p_c, p_levels, NULL) LOOP
        FOR i IN 1..cardinality(b.ids) LOOP
            CONTINUE WHEN NOT b.present[i];
            IF b.ids[i] = last_id THEN
                RAISE data_corrupted USING MESSAGE =
                    'chunk: an id has two entries at one snapshot';
            END IF;
            last_id := b.ids[i];
            id := b.ids[i];
            flags := b.flags[i];
            level := b.levels[i];
            RETURN NEXT;
        END LOOP;
    END LOOP;
END $$;

-- An id over the run, from the slices that chunk_find() names.
CREATE FUNCTION poolscope_data.chunk_run(
    p_c poolscope_data.chunk_head, p_levels bytea, p_data bytea, p_id integer)
RETURNS TABLE (n bigint, at timestamptz, flags integer, allocs bigint,
               frees bigint, outstanding bigint, bytes bigint,
               value double precision)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 60 AS $$
DECLARE
    block integer := chunk_block_of(p_c, p_id);
    b poolscope_data.chunk_block;
    t record;
BEGIN
    IF block IS NULL THEN
        RETURN;
    END IF;
    b := chunk_block_open(p_c, chunk_slice(p_c, block), p_levels, p_data);
    IF NOT p_id = ANY (b.ids) THEN
        RETURN;
    END IF;
    t := chunk_times(p_c);
    RETURN QUERY
    SELECT t.n[e.snapshot + 1], chunk_time(t.at_us[e.snapshot + 1]),
        e.flags, e.allocs, e.frees, e.outstanding, e.bytes, e.value
    FROM chunk_entries(p_c, b, p_id) e;
END $$;
