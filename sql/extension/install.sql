-- Puts the functions in C in place of those in PL/pgSQL that the migrations
-- made: same names, arguments and results. A superuser runs it once a
-- database, after the library poolscope_chunk.so has been copied to the
-- server's library folder (pg_config --pkglibdir):
--
--   psql -v ON_ERROR_STOP=1 -d DATABASE -f sql/extension/install.sql
--
-- or with -v library=/path/of/poolscope_chunk where it lies elsewhere. Who may
-- call the functions stays as it was. Run it again after a migration that
-- replaced them; sql/migrations/013_chunk.sql is the way back.
\if :{?library}
\else
\set library '$libdir/poolscope_chunk'
\endif

BEGIN;

CREATE OR REPLACE FUNCTION poolscope_data.chunk_snapshots(
    p_head bytea)
RETURNS TABLE (i integer, n bigint, at timestamptz,
               wall_at timestamptz, boot_id uuid)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 60
AS :'library', 'poolscope_chunk_snapshots';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_find(
    p_head bytea, p_id integer)
RETURNS TABLE (levels_from integer, levels_length integer,
               data_from integer, data_length integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1
AS :'library', 'poolscope_chunk_find';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_points(
    p_head bytea, p_levels bytea, p_data bytea, p_id integer)
RETURNS TABLE (n bigint, at timestamptz, flags integer, allocs bigint,
               frees bigint, outstanding bigint, bytes bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 60
AS :'library', 'poolscope_chunk_points';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_counter_points(
    p_head bytea, p_levels bytea, p_data bytea, p_id integer)
RETURNS TABLE (n bigint, at timestamptz, value double precision)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 60
AS :'library', 'poolscope_chunk_counter_points';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_levels(
    p_head bytea, p_levels bytea)
RETURNS TABLE (id integer, flags integer, bytes bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 3000
AS :'library', 'poolscope_chunk_levels';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_counter_levels(
    p_head bytea, p_levels bytea)
RETURNS TABLE (id integer, value double precision)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1000
AS :'library', 'poolscope_chunk_counter_levels';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_end(
    p_head bytea, p_levels bytea, p_data bytea)
RETURNS TABLE (id integer, flags integer, allocs bigint,
               frees bigint, outstanding bigint, bytes bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 3000
AS :'library', 'poolscope_chunk_end';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_counter_end(
    p_head bytea, p_levels bytea, p_data bytea)
RETURNS TABLE (id integer, value double precision)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1000
AS :'library', 'poolscope_chunk_counter_end';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_state(
    p_head bytea, p_levels bytea, p_data bytea, p_i integer)
RETURNS TABLE (id integer, flags integer, allocs bigint,
               frees bigint, outstanding bigint, bytes bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 3000
AS :'library', 'poolscope_chunk_state';

CREATE OR REPLACE FUNCTION poolscope_data.stored_tags_state(
    p_rows bytea[], p_kinds smallint[])
RETURNS TABLE (id integer, flags integer, allocs bigint, frees bigint,
               outstanding bigint, bytes bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 3000
AS :'library', 'poolscope_stored_tags_state';

CREATE OR REPLACE FUNCTION poolscope_data.stored_counters_state(
    p_rows bytea[], p_kinds smallint[])
RETURNS TABLE (id integer, value double precision)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 300
AS :'library', 'poolscope_stored_counters_state';

CREATE OR REPLACE FUNCTION poolscope_data.stored_tag_points(
    p_rows bytea[], p_kinds smallint[], p_id integer)
RETURNS TABLE (i integer, flags integer, allocs bigint, frees bigint,
               outstanding bigint, bytes bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 60
AS :'library', 'poolscope_stored_tag_points';

CREATE OR REPLACE FUNCTION poolscope_data.stored_counter_points(
    p_rows bytea[], p_kinds smallint[], p_id integer)
RETURNS TABLE (i integer, value double precision)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 60
AS :'library', 'poolscope_stored_counter_points';

CREATE OR REPLACE FUNCTION poolscope_data.stored_tag_hours(
    p_rows bytea[], p_kinds smallint[], p_ats timestamptz[])
RETURNS TABLE (hour timestamptz, id integer, n bigint, first_at timestamptz,
               last_at timestamptz, first_bytes bigint, last_bytes bigint,
               min_bytes bigint, max_bytes bigint, sum_bytes numeric,
               last_outstanding bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 3000
AS :'library', 'poolscope_stored_tag_hours';

CREATE OR REPLACE FUNCTION poolscope_data.stored_counter_hours(
    p_rows bytea[], p_kinds smallint[], p_ats timestamptz[])
RETURNS TABLE (hour timestamptz, id integer, n bigint, first_at timestamptz,
               last_at timestamptz, first_value double precision,
               last_value double precision, min_value double precision,
               max_value double precision, sum_value double precision)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 300
AS :'library', 'poolscope_stored_counter_hours';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_blocks(
    p_head bytea)
RETURNS TABLE (block integer, first_id integer, last_id integer,
               levels_from integer, levels_length integer,
               data_from integer, data_length integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 90
AS :'library', 'poolscope_chunk_blocks';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_tag_hours(
    p_head bytea, p_levels bytea, p_data bytea, p_block integer)
RETURNS TABLE (hour timestamptz, id integer, n bigint, first_at timestamptz,
               last_at timestamptz, first_bytes bigint, last_bytes bigint,
               min_bytes bigint, max_bytes bigint, sum_bytes numeric,
               last_outstanding bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 32
AS :'library', 'poolscope_chunk_tag_hours';

CREATE OR REPLACE FUNCTION poolscope_data.chunk_counter_hours(
    p_head bytea, p_levels bytea, p_data bytea, p_block integer)
RETURNS TABLE (hour timestamptz, id integer, n bigint, first_at timestamptz,
               last_at timestamptz, first_value double precision,
               last_value double precision, min_value double precision,
               max_value double precision, sum_value double precision)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 32
AS :'library', 'poolscope_chunk_counter_hours';

CREATE OR REPLACE FUNCTION poolscope_data.summary_tag_rows(
    p_head bytea, p_levels bytea, p_data bytea, p_block integer)
RETURNS TABLE (at timestamptz, id integer, first_bytes bigint,
               last_bytes bigint, min_bytes bigint, max_bytes bigint,
               mean_bytes bigint, last_outstanding bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 400
AS :'library', 'poolscope_summary_tag_rows';

COMMIT;
