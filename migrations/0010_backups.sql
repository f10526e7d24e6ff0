-- What is being done with backups, and how it ended. The backups themselves are in storage; no backup holds this table.
CREATE TABLE backup_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation text NOT NULL CHECK (operation IN ('create', 'verify', 'restore')),
    backup text NOT NULL,
    -- Of a verification its depth, of a restore the new database.
    argument text NOT NULL DEFAULT '',
    actor text NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'succeeded', 'failed')),
    step text NOT NULL DEFAULT '',
    bytes bigint NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL,
    start_time timestamptz,
    -- Of a run that goes on, when its worker last said so.
    update_time timestamptz NOT NULL,
    end_time timestamptz
);

CREATE INDEX backup_runs_by_backup ON backup_runs (backup COLLATE "C" DESC, id DESC);
