-- The audit log keeps what it has; keys say when they were last used.

-- Append-only for everybody, the owner of the table included: what changes it must first say so in a migration.
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();

CREATE INDEX audit_log_actor ON audit_log (actor, id DESC);
CREATE INDEX audit_log_resource ON audit_log (resource, id DESC);

ALTER TABLE api_keys ADD COLUMN last_use_time timestamptz;
