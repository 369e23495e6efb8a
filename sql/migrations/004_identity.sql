-- Enrolment tokens, keys of hosts, and what administrators do.

-- A host is live, and its name taken, while its certificate is good or was so
-- less than 30 days ago. Asking again with the key that enrolled is the same
-- request whose answer was lost.
CREATE FUNCTION poolscope_api.enrol(
    p_secret_sha256 bytea, p_host text, p_os text, p_key_sha256 bytea,
    p_valid_from timestamptz, p_not_after timestamptz,
    OUT result text, OUT host_id bigint, OUT host text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
DECLARE
    token enrolment_token;
    known poolscope_data.host;
BEGIN
    SELECT * INTO token FROM enrolment_token t
    WHERE t.sha256 = p_secret_sha256 FOR UPDATE;
    IF NOT FOUND OR token.revoked OR token.expires_at <= now() THEN
        result := 'token';
        RETURN;
    END IF;

    SELECT * INTO known FROM host h WHERE h.host = p_host FOR UPDATE;
    IF FOUND AND known.disabled_at IS NOT NULL THEN
        result := 'disabled';
        RETURN;
    ELSIF FOUND AND known.key_sha256 = p_key_sha256
          AND known.token_id = token.token_id THEN
        UPDATE host h SET not_after = p_not_after
        WHERE h.host_id = known.host_id;
        result := 'ok';
        host_id := known.host_id;
        host := known.host;
        RETURN;
    ELSIF token.uses_left = 0 THEN
        result := 'token';
        RETURN;
    ELSIF known.host_id IS NOT NULL
          AND NOT coalesce(known.reenrol_until > now(), false)
          AND (known.not_after IS NULL
               OR known.not_after > now() - interval '30 days') THEN
        result := 'name_taken';
        RETURN;
    END IF;

    INSERT INTO host AS h (host, os, token_id, key_sha256, valid_from,
                           not_after)
    VALUES (p_host, p_os, token.token_id, p_key_sha256, p_valid_from,
            p_not_after)
    ON CONFLICT (host) DO UPDATE
    SET os = excluded.os, token_id = excluded.token_id,
        key_sha256 = excluded.key_sha256, valid_from = excluded.valid_from,
        not_after = excluded.not_after, reenrol_until = NULL,
        enrolled_at = now()
    WHERE h.host_id = known.host_id
    RETURNING h.host_id, h.host INTO host_id, host;
    IF host_id IS NULL THEN
        result := 'name_taken'; -- by somebody who was as quick
        RETURN;
    END IF;
    UPDATE enrolment_token SET uses_left = uses_left - 1
    WHERE token_id = token.token_id;
    result := 'ok';
END $$;

-- May the peer that shows a certificate from p_not_before on have a new one,
-- good until p_not_after?
CREATE FUNCTION poolscope_api.renew(
    p_host_id bigint, p_not_before timestamptz, p_not_after timestamptz,
    OUT result text, OUT host text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
#variable_conflict use_column
BEGIN
    result := host_admit(p_host_id, p_not_before);
    UPDATE host h SET not_after = greatest(h.not_after, p_not_after)
    WHERE h.host_id = p_host_id AND result = 'ok'
    RETURNING h.host INTO host;
END $$;

CREATE FUNCTION poolscope_api.token_create(
    p_secret_sha256 bytea, p_uses integer, p_valid_for interval, p_note text)
RETURNS bigint LANGUAGE sql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    INSERT INTO enrolment_token (sha256, uses, uses_left, expires_at, note)
    VALUES (p_secret_sha256, p_uses, p_uses, now() + p_valid_for,
            coalesce(p_note, ''))
    RETURNING token_id
$$;

CREATE FUNCTION poolscope_api.token_list()
RETURNS TABLE (token_id bigint, note text, uses integer, uses_left integer,
               created_at timestamptz, expires_at timestamptz,
               revoked boolean, state text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
    SELECT t.token_id, t.note, t.uses, t.uses_left, t.created_at,
        t.expires_at, t.revoked,
        CASE WHEN t.revoked THEN 'revoked'
             WHEN t.uses_left = 0 THEN 'used'
             WHEN t.expires_at <= now() THEN 'expired'
             ELSE 'usable' END
    FROM enrolment_token t ORDER BY t.token_id
$$;

CREATE FUNCTION poolscope_api.token_revoke(p_token_id bigint)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    UPDATE enrolment_token SET revoked = true WHERE token_id = p_token_id;
    RETURN FOUND;
END $$;

CREATE FUNCTION poolscope_api.host_disable(p_host text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    UPDATE host SET disabled_at = coalesce(disabled_at, now())
    WHERE host = p_host;
    RETURN FOUND;
END $$;

CREATE FUNCTION poolscope_api.host_enable(p_host text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    UPDATE host SET disabled_at = NULL WHERE host = p_host;
    RETURN FOUND;
END $$;

CREATE FUNCTION poolscope_api.host_reenrol(p_host text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    UPDATE host SET reenrol_until = now() + interval '24 hours'
    WHERE host = p_host;
    RETURN FOUND;
END $$;

CREATE FUNCTION poolscope_api.host_label(p_host text, p_labels jsonb)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    IF jsonb_typeof(p_labels) <> 'object' THEN
        RAISE EXCEPTION 'labels must be a JSON object, not %', p_labels;
    END IF;
    UPDATE host SET admin_labels = p_labels WHERE host = p_host;
    RETURN FOUND;
END $$;

CREATE FUNCTION poolscope_api.setting_set(p_name text, p_value text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
BEGIN
    IF p_name LIKE 'retention\_%' THEN
        IF p_value::interval < interval '1 hour' THEN
            RAISE EXCEPTION '% must be at least one hour', p_name;
        END IF;
    ELSIF p_name LIKE 'max\_%' THEN
        PERFORM p_value::bigint;
    ELSIF p_name = 'ca_sha256' THEN
        IF p_value !~ '^[0-9a-f]{64}$' THEN
            RAISE EXCEPTION '% must be 64 hexadecimal digits', p_name;
        END IF;
    ELSE
        RAISE EXCEPTION 'there is no setting "%"', p_name;
    END IF;
    UPDATE setting SET value = p_value WHERE name = p_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no setting "%"', p_name;
    END IF;
END $$;

-- The CA that the database belongs to, in hex; '' if nobody has claimed it.
-- The first p_sha256 that is not empty claims it; later ones only if p_replace.
CREATE FUNCTION poolscope_api.ca_claim(p_sha256 text, p_replace boolean)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = poolscope_data, pg_temp AS $$
DECLARE
    known text := (SELECT value FROM setting WHERE name = 'ca_sha256'
                   FOR UPDATE);
BEGIN
    IF p_sha256 <> '' AND (known = '' OR p_replace) THEN
        PERFORM poolscope_api.setting_set('ca_sha256', p_sha256);
        known := p_sha256;
    END IF;
    RETURN known;
END $$;
