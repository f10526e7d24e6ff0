//! The integration tests: one binary, one private Postgres a run, one database a test.
