-- How each kind of job went last, on whichever worker.
CREATE TABLE job_status (
    task text PRIMARY KEY,
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    -- Empty when the last run did what it is for.
    error text NOT NULL,
    failure_start_time timestamptz,
    failure_end_time timestamptz,
    failure_error text NOT NULL DEFAULT '',
    run_count int NOT NULL,
    failed_run_count int NOT NULL
);
