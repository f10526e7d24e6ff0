-- Which keywords are covered together, each pair once. Replaced as a whole, each day.
CREATE TABLE keyword_relations (
    keyword_id bigint NOT NULL REFERENCES keywords ON DELETE CASCADE,
    other_id bigint NOT NULL REFERENCES keywords ON DELETE CASCADE,
    strength double precision NOT NULL CHECK (strength > 0 AND strength <= 1),
    article_count int NOT NULL,
    PRIMARY KEY (keyword_id, other_id),
    CHECK (keyword_id < other_id)
);
CREATE INDEX keyword_relations_other ON keyword_relations (other_id);

-- When that was: one row at most.
CREATE TABLE keyword_relations_computed (
    compute_time timestamptz NOT NULL,
    one boolean PRIMARY KEY DEFAULT true CHECK (one)
);

-- The last look at whether a keyword still finds anything, with what was seen.
CREATE TABLE keyword_reviews (
    keyword_id bigint PRIMARY KEY REFERENCES keywords ON DELETE CASCADE,
    review_time timestamptz NOT NULL,
    flagged boolean NOT NULL,
    -- Of the days that were looked at: the keyword's articles, and all articles.
    article_count int NOT NULL,
    archive_article_count int NOT NULL,
    latest_article_time timestamptz
);
CREATE INDEX keyword_reviews_flagged ON keyword_reviews (keyword_id) WHERE flagged;
