-- Documents: files that people upload, analysed like articles but kept apart from them, so that nothing that counts the press counts these.

CREATE TABLE documents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- A label; never used as a path.
    file_name text NOT NULL,
    media_type text NOT NULL,
    byte_count int NOT NULL,
    -- What tells pages apart has them: NULL for text and Word files.
    page_count int,
    -- Pages that the parser could not read.
    unread_page_count int NOT NULL,
    -- SHA-256 of the file: the same bytes are the same document.
    content_hash bytea NOT NULL UNIQUE,
    title text NOT NULL,
    body text NOT NULL,
    -- The file holds more text than `body`.
    truncated boolean NOT NULL,
    language text NOT NULL,
    language_confidence double precision NOT NULL,
    search tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector(search_config(language), body)) STORED,
    create_time timestamptz NOT NULL,
    analyzer text NOT NULL,
    analyzer_version text NOT NULL,
    abstain_reason text NOT NULL,
    score double precision CHECK (score BETWEEN -1 AND 1),
    label smallint CHECK (label BETWEEN 1 AND 5),
    confidence double precision,
    subjectivity double precision,
    positive double precision,
    neutral double precision,
    negative double precision,
    phrases jsonb NOT NULL,
    embedding vector(384),
    embedding_model text,
    CHECK ((score IS NULL) = (abstain_reason <> ''))
);
CREATE INDEX documents_create_time ON documents (create_time DESC, id DESC);
CREATE INDEX documents_search ON documents USING gin (search);

CREATE TABLE document_keywords (
    document_id bigint NOT NULL REFERENCES documents ON DELETE CASCADE,
    keyword_id bigint NOT NULL REFERENCES keywords ON DELETE CASCADE,
    -- Empty when the boolean query matched.
    matched_language text NOT NULL,
    matched_term text NOT NULL,
    PRIMARY KEY (document_id, keyword_id)
);
CREATE INDEX document_keywords_keyword ON document_keywords (keyword_id);
