-- Who may do what. The reader has the contract and nothing else; functions
-- that views call run as their owner but must be executable by the caller.

GRANT USAGE ON SCHEMA poolscope TO poolscope_reader, poolscope_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA poolscope
    TO poolscope_reader, poolscope_writer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA poolscope
    TO poolscope_reader, poolscope_writer;
GRANT EXECUTE ON FUNCTION
    poolscope_data.tags_state(bigint, bigint, bigint),
    poolscope_data.counters_state(bigint, bigint, bigint),
    poolscope_data.tags_hour(bigint, timestamptz),
    poolscope_data.counters_hour(bigint, timestamptz),
    poolscope_data.live_from(bigint),
    poolscope_data.live_hours(bigint)
    TO poolscope_reader, poolscope_writer;

GRANT USAGE ON SCHEMA poolscope_api TO poolscope_writer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA poolscope_api TO poolscope_writer;
