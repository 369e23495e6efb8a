-- What the readers of chunks (013_chunk.sql) are made of. A chunk is a host's
-- table over a run of snapshots in three strings of bytes; sql/codec/README.md
-- gives them bit by bit. Places are in bits from the start of a string; to read
-- beyond its end gives zeros or is an error.
--
-- Nothing here reads a table. Callers set the search path.

-- p_n bits (0 to 64) at p_at.
CREATE FUNCTION poolscope_data.chunk_bits(p_bytes bytea, p_at integer,
                                          p_n integer)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_n > 32 THEN
        RETURN (chunk_bits(p_bytes, p_at, p_n - 32) << 32)
            | chunk_bits(p_bytes, p_at + p_n - 32, 32);
    END IF;
    RETURN ((('x' || encode(substr(p_bytes, (p_at >> 3) + 1, 5), 'hex'))
            ::bit(64)::bigint << (p_at & 7)) >> (64 - p_n))
        & ((1::bigint << p_n) - 1);
END $$;

-- How many bits p_n (up to 4,095) has.
CREATE FUNCTION poolscope_data.chunk_width(p_n integer)
RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN length(ltrim(p_n::bit(12)::text, '0'));
END $$;

-- Whether the last 4 bytes are the checksum of those before, with that of the
-- head (0 for the head itself).
CREATE FUNCTION poolscope_data.chunk_sealed(p_bytes bytea, p_with bigint)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    body integer := length(p_bytes) - 4;
BEGIN
    IF body < 0 THEN
        RETURN false;
    END IF;
    RETURN chunk_bits(sha256(substr(p_bytes, 1, body)), 0, 32) # p_with
        = chunk_bits(p_bytes, 8 * body, 32);
END $$;

-- Parameters: mode, k, shift.
CREATE FUNCTION poolscope_data.chunk_params(p_bytes bytea, INOUT p_at integer,
                                            OUT params integer[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    w integer := chunk_bits(p_bytes, p_at, 15);
BEGIN
    IF w < 16384 THEN
        params := ARRAY[w >> 13, 0, 0];
        p_at := p_at + 2;
    ELSIF w & 64 = 0 THEN
        params := ARRAY[w >> 13, (w >> 7) & 63, 0];
        p_at := p_at + 9;
    ELSE
        params := ARRAY[w >> 13, (w >> 7) & 63, w & 63];
        p_at := p_at + 15;
    END IF;
END $$;

-- p_n numbers. p_params has parameters of one list, or of several whose
-- numbers take turns. At least 8 bytes must follow p_bytes' last code.
CREATE FUNCTION poolscope_data.chunk_numbers(
    p_bytes bytea, INOUT p_at integer, p_params integer[], p_n integer,
    OUT numbers bigint[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    turn integer := 1;
    turns CONSTANT integer := cardinality(p_params);
    k integer;
    w bigint;       -- the next 41 to 48 bits
    o integer;      -- the place in it, counted from its end
    z integer;
    m bigint;
    i integer;
BEGIN
    numbers := array_fill(0::bigint, ARRAY[p_n]);
    IF turns = 3 AND p_params[1] = 0 THEN
        RETURN;
    END IF;
    FOR c IN 1..p_n LOOP
        IF p_params[turn] > 0 THEN
            k := p_params[turn + 1];
            i := p_at >> 3;
            o := 47 - (p_at & 7);
            w := ((get_byte(p_bytes, i)::bigint << 40)
                | (get_byte(p_bytes, i + 1)::bigint << 32)
                | (get_byte(p_bytes, i + 2)::bigint << 24)
                | (get_byte(p_bytes, i + 3) << 16)
                | (get_byte(p_bytes, i + 4) << 8)
                | get_byte(p_bytes, i + 5)) & ((2::bigint << o) - 1);
            IF w >> o = 1 THEN
                p_at := p_at + 1 + k;
                m := CASE WHEN k <= o
                    THEN (w >> (o - k)) & ((1::bigint << k) - 1)
                    ELSE chunk_bits(p_bytes, p_at - k, k) END;
            ELSE
                z := 1;
                WHILE z <= 32 AND w >> (o - z) = 0 LOOP
                    z := z + 1;
                END LOOP;
                IF z > 32 OR k + z > 64 THEN
                    RAISE data_corrupted USING MESSAGE = 'chunk: bad code';
                END IF;
                p_at := p_at + k + 2 * z;
                m := CASE WHEN k + 2 * z <= o + 1
                    THEN w >> (o + 1 - k - 2 * z)
                    ELSE chunk_bits(p_bytes, p_at - k - z, k + z) END;
            END IF;
            IF p_params[turn] = 3 AND m <> 0 THEN
                IF (get_byte(p_bytes, p_at >> 3) >> (7 - (p_at & 7))) & 1 = 1
                THEN
                    m := -m;
                END IF;
                p_at := p_at + 1;
            END IF;
            numbers[c] := m << p_params[turn + 2];
        END IF;
        turn := turn + 3;
        IF turn > turns THEN
            turn := 1;
        END IF;
    END LOOP;
END $$;

-- The bits of an IEEE 754 double as one.
CREATE FUNCTION poolscope_data.chunk_real(p_bits bigint)
RETURNS double precision LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    exponent integer := (p_bits >> 52) & 2047;
    fraction bigint := p_bits & 4503599627370495;
    sign double precision := CASE WHEN p_bits < 0 THEN -1 ELSE 1 END;
BEGIN
    IF exponent = 2047 THEN
        RETURN CASE WHEN fraction = 0 THEN sign * 'Infinity' ELSE 'NaN' END;
    ELSIF exponent = 0 THEN
        RETURN sign * (fraction * 4.94065645841246544e-324::double precision);
    END IF;
    -- In two steps, so that no power of 2 is too small for a double.
    RETURN sign * ((fraction + 4503599627370496)
        * power(2::double precision, greatest(exponent, 54) - 1075))
        * power(2::double precision, least(exponent, 54) - 54);
END $$;

-- The same as the nearest whole number; NULL if that is no value of a chunk.
CREATE FUNCTION poolscope_data.chunk_whole(p_bits bigint)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    number double precision := chunk_real(p_bits);
BEGIN
    RETURN CASE WHEN abs(number) < 4611686018427387904 THEN number END;
END $$;

-- An opened head.
CREATE TYPE poolscope_data.chunk_head AS (
    bytes bytea,            -- padded
    columns integer,
    snapshots integer,
    boots integer,
    blocks integer,
    entries bigint,
    id_bits integer,        -- widths in the index
    data_bits integer,
    levels_bits integer,
    index_at integer,
    times_at integer,
    seal bigint             -- its checksum
);

-- p_columns 0: any.
CREATE FUNCTION poolscope_data.chunk_open(p_head bytea, p_columns integer)
RETURNS poolscope_data.chunk_head
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    c poolscope_data.chunk_head;
BEGIN
    IF length(p_head) > 0 AND get_byte(p_head, 0) <> 1 THEN
        RAISE feature_not_supported USING MESSAGE = format(
            'chunk: layout version %s, known is 1', get_byte(p_head, 0));
    ELSIF length(p_head) < 51 THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: the head is cut off';
    ELSIF NOT chunk_sealed(p_head, 0) THEN
        RAISE data_corrupted
            USING MESSAGE = 'chunk: the head''s checksum is wrong';
    END IF;
    c.bytes := p_head || '\x0000000000000000'::bytea;
    c.columns := get_byte(p_head, 1);
    c.snapshots := chunk_bits(p_head, 16, 16);
    c.boots := chunk_bits(p_head, 32, 16);
    c.blocks := chunk_bits(p_head, 48, 16);
    c.entries := chunk_bits(p_head, 64, 32);
    c.id_bits := get_byte(p_head, 44);
    c.data_bits := get_byte(p_head, 45);
    c.levels_bits := get_byte(p_head, 46);
    IF c.columns NOT IN (1, 4) OR c.snapshots NOT BETWEEN 1 AND 4096
       OR c.boots NOT BETWEEN 1 AND c.snapshots OR c.id_bits > 31
       OR c.data_bits > 32 OR c.levels_bits > 32 THEN
        RAISE data_corrupted
            USING MESSAGE = 'chunk: the head has bad counts';
    ELSIF p_columns NOT IN (0, c.columns) THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: it has '
            || CASE p_columns WHEN 1 THEN 'tags, not counters'
                              ELSE 'counters, not tags' END;
    END IF;
    c.index_at := 8 * (47 + 16 * c.boots);
    c.times_at := (c.index_at + c.blocks
        * (c.id_bits + c.data_bits + c.levels_bits) + 7) / 8 * 8;
    c.seal := chunk_bits(p_head, 8 * (length(p_head) - 4), 32);
    IF c.times_at > 8 * (length(p_head) - 4) THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: the head is too short';
    END IF;
    RETURN c;
END $$;

-- A row of the index: where block p_block (from 0) lies, in bytes.
CREATE FUNCTION poolscope_data.chunk_slice(
    p_c poolscope_data.chunk_head, p_block integer,
    OUT first_id bigint, OUT levels_at bigint, OUT levels_length bigint,
    OUT data_at bigint, OUT data_length bigint)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    at integer := p_c.index_at + p_block
        * (p_c.id_bits + p_c.data_bits + p_c.levels_bits);
    id_before bigint := 0;
BEGIN
    data_at := 0;
    levels_at := 0;
    IF p_block > 0 THEN
        levels_at := chunk_bits(p_c.bytes, at - p_c.levels_bits,
                                p_c.levels_bits);
        data_at := chunk_bits(p_c.bytes, at - p_c.levels_bits - p_c.data_bits,
                              p_c.data_bits);
        id_before := chunk_bits(p_c.bytes, at - p_c.levels_bits
            - p_c.data_bits - p_c.id_bits, p_c.id_bits);
    END IF;
    first_id := chunk_bits(p_c.bytes, at, p_c.id_bits);
    at := at + p_c.id_bits;
    data_length := chunk_bits(p_c.bytes, at, p_c.data_bits) - data_at;
    at := at + p_c.data_bits;
    levels_length := chunk_bits(p_c.bytes, at, p_c.levels_bits) - levels_at;
    IF first_id <= id_before OR data_length < 0 OR levels_length < 0
       OR data_at + data_length > 1073741823
       OR levels_at + levels_length > 1073741823 THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: bad index';
    END IF;
END $$;

-- The block that may have p_id; NULL if none may.
CREATE FUNCTION poolscope_data.chunk_block_of(
    p_c poolscope_data.chunk_head, p_id integer)
RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    width integer := p_c.id_bits + p_c.data_bits + p_c.levels_bits;
    low integer := 0;
    high integer := p_c.blocks;
    middle integer;
BEGIN
    WHILE low < high LOOP
        middle := (low + high) / 2;
        IF chunk_bits(p_c.bytes, p_c.index_at + middle * width, p_c.id_bits)
           <= p_id THEN
            low := middle + 1;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN CASE WHEN p_id > 0 AND low > 0 THEN low - 1 END;
END $$;

-- The snapshots: numbers, times, host's times less those, and boots from 0.
CREATE FUNCTION poolscope_data.chunk_times(
    p_c poolscope_data.chunk_head, OUT n bigint[], OUT at_us bigint[],
    OUT ahead_us bigint[], OUT boot integer[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    limit_ CONSTANT bigint := 1152921504606846976;
    at integer := p_c.times_at;
    params integer[] := '{}';
    r record;
    v bigint[];
    n_now bigint := chunk_bits(p_c.bytes, 96, 64);
    at_now bigint := chunk_bits(p_c.bytes, 160, 64);
    ahead_now bigint := chunk_bits(p_c.bytes, 224, 64);
    step bigint := chunk_bits(p_c.bytes, 288, 64);
    boot_now bigint := 0;
    i integer := 0;
BEGIN
    FOR list IN 1..4 LOOP
        r := chunk_params(p_c.bytes, at);
        at := r.p_at;
        params := params || r.params;
    END LOOP;
    IF 1 IN (params[1], params[4], params[7], params[10]) THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: bad times';
    END IF;
    r := chunk_numbers(p_c.bytes, at, params, 4 * (p_c.snapshots - 1));
    v := r.numbers;
    n := array_fill(n_now, ARRAY[p_c.snapshots]);
    at_us := array_fill(at_now, ARRAY[p_c.snapshots]);
    ahead_us := array_fill(ahead_now, ARRAY[p_c.snapshots]);
    boot := array_fill(0, ARRAY[p_c.snapshots]);
    IF n_now < 0 OR n_now >= limit_ OR abs(at_now) >= limit_
       OR abs(ahead_now) >= limit_ THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: the head has bad times';
    END IF;
    FOR s IN 2..p_c.snapshots LOOP
        at_now := at_now + step + v[i + 2];
        at_us[s] := at_now;
        ahead_now := ahead_now + v[i + 3];
        ahead_us[s] := ahead_now;
        boot_now := boot_now + v[i + 4];
        boot[s] := boot_now;
        IF v[i + 1] < 0 OR n_now + 1 + v[i + 1] >= limit_
           OR abs(at_now) >= limit_ OR abs(ahead_now) >= limit_
           OR boot_now NOT BETWEEN 0 AND p_c.boots - 1 THEN
            RAISE data_corrupted USING MESSAGE = 'chunk: bad times';
        END IF;
        n_now := n_now + 1 + v[i + 1];
        n[s] := n_now;
        i := i + 4;
    END LOOP;
    IF r.p_at > 8 * (length(p_c.bytes) - 12) THEN
        RAISE data_corrupted USING MESSAGE = 'chunk: bad times';
    END IF;
END $$;

-- A time from microseconds since 1970, exactly: a product with a double is
-- that only up to 2^53.
CREATE FUNCTION poolscope_data.chunk_time(p_us bigint)
RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT '1970-01-01 00:00:00+00'::timestamptz
        + (p_us >> 30) * interval '1073.741824 seconds'
        + (p_us & 1073741823) * interval '1 microsecond'
$$;
