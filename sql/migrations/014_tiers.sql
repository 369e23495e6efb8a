-- Samples in two tiers. Fresh: a row as it came, of one host and batch, the
-- wire's own differences. Settled: chunks, one host and span of time each,
-- columnar by tag (sql/codec/README.md). docs/store.md tells how they meet.

-- One row a host and batch. tags and counters are as proto/stored.h says. Rows
-- of settled tables stay for a while, hidden by host_settle, until their slot
-- is emptied as a whole.
CREATE TABLE poolscope_data.fresh (
    host_id bigint NOT NULL,
    n bigint NOT NULL,              -- the host's own count: order of arrival
    at timestamptz NOT NULL,
    wall_at timestamptz NOT NULL,
    first_seq bigint NOT NULL,      -- less than seq: it came in parts
    seq bigint NOT NULL,
    boot_id uuid NOT NULL,
    stream uuid NOT NULL,
    slot smallint NOT NULL,
    tags_kind smallint NOT NULL,    -- 0 no tags, 1 a delta, 2 a keyframe
    counters_kind smallint NOT NULL,
    tags bytea,
    counters bytea,
    PRIMARY KEY (host_id, n, slot)
) PARTITION BY LIST (slot);
ALTER TABLE poolscope_data.fresh
    ALTER tags SET STORAGE MAIN, ALTER counters SET STORAGE MAIN;

-- Slots are filled in turn; see fresh_turn(). The present one is where rows go.
CREATE TABLE poolscope_data.fresh_slot (
    slot smallint PRIMARY KEY,
    present boolean NOT NULL DEFAULT false,
    opened_at timestamptz,          -- NULL: empty
    closed_at timestamptz
);
DO $$
BEGIN
    FOR i IN 0 .. 7 LOOP
        EXECUTE format('CREATE TABLE poolscope_data.fresh_%s PARTITION OF '
            'poolscope_data.fresh FOR VALUES IN (%s)', i, i);
        INSERT INTO poolscope_data.fresh_slot
        VALUES (i, i = 0, CASE i WHEN 0 THEN now() END, NULL);
    END LOOP;
END $$;

-- Up to where a host's tables are in chunks: readers take chunks for what is
-- at or below, fresh rows for what is above. Both begin after a row of which
-- the next one with that table is a keyframe.
CREATE TABLE poolscope_data.host_settle (
    host_id bigint PRIMARY KEY,
    tags_n bigint NOT NULL DEFAULT 0,
    counters_n bigint NOT NULL DEFAULT 0,
    retry_at timestamptz            -- it failed: not before
) WITH (fillfactor = 50);

-- A chunk: consecutive samples of one host whose times lie in one span (a
-- whole number of settle_spans, never more than 4 hours). A span may have
-- several: what came late, or where time went back. A sample is in one only.
CREATE TABLE poolscope_data.tag_chunk (
    host_id bigint NOT NULL,
    span_at timestamptz NOT NULL,   -- the span's beginning
    n_from bigint NOT NULL,         -- of its first sample
    n_to bigint NOT NULL,           -- of its last one
    at_from timestamptz NOT NULL,   -- least and greatest time
    at_to timestamptz NOT NULL,
    snapshots integer NOT NULL,
    head bytea NOT NULL,
    levels bytea NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (host_id, span_at, n_from)
) PARTITION BY RANGE (span_at);
ALTER TABLE poolscope_data.tag_chunk ALTER head SET STORAGE MAIN,
    ALTER levels SET STORAGE EXTERNAL, ALTER data SET STORAGE EXTERNAL;
CREATE TABLE poolscope_data.counter_chunk
    (LIKE poolscope_data.tag_chunk INCLUDING ALL) PARTITION BY RANGE (span_at);
CREATE TABLE poolscope_data.tag_chunk_default
    PARTITION OF poolscope_data.tag_chunk DEFAULT;
CREATE TABLE poolscope_data.counter_chunk_default
    PARTITION OF poolscope_data.counter_chunk DEFAULT;
INSERT INTO poolscope_data.partitioned VALUES
    ('tag_chunk', 'span_at', 'day', 'retention_points'),
    ('counter_chunk', 'span_at', 'day', 'retention_points');

INSERT INTO poolscope_data.setting (name, value, meaning) VALUES
    ('settle_span', '1 hour', 'how long a run of samples is made a chunk: a '
     'whole part of an hour');
