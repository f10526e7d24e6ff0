-- What a source delivered in a time, and when it was fetched: for the health of sources.
CREATE INDEX articles_received ON articles (source_id, create_time);
CREATE INDEX runs_time ON runs (source_id, start_time) WHERE outcome IN (1, 2);
