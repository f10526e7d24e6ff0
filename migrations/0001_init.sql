-- The archive: sources, feeds, runs, articles, analyses, keywords, links, aggregates; keys and the audit log.

CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS unaccent;

-- Text search: every configuration drops accents before it stems, so that "energie" finds "Énergie". --------------------------

DO $$
DECLARE
    base text;
    stem text;
BEGIN
    FOR base, stem IN VALUES
        ('english', 'english_stem'), ('german', 'german_stem'), ('french', 'french_stem'), ('spanish', 'spanish_stem'),
        ('italian', 'italian_stem'), ('swedish', 'swedish_stem'), ('dutch', 'dutch_stem'), ('danish', 'danish_stem'),
        ('simple', 'simple')
    LOOP
        EXECUTE format('CREATE TEXT SEARCH CONFIGURATION public.euhub_%s (COPY = pg_catalog.%I)', base, base);
        EXECUTE format(
            'ALTER TEXT SEARCH CONFIGURATION public.euhub_%s ALTER MAPPING FOR hword, hword_part, word WITH public.unaccent, pg_catalog.%I',
            base, stem);
    END LOOP;
END
$$;

-- The configuration of an ISO 639-1 language; languages that Postgres cannot stem are matched word by word.
CREATE FUNCTION search_config(language text) RETURNS regconfig
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE language
    WHEN 'en' THEN 'public.euhub_english'::regconfig
    WHEN 'de' THEN 'public.euhub_german'::regconfig
    WHEN 'fr' THEN 'public.euhub_french'::regconfig
    WHEN 'es' THEN 'public.euhub_spanish'::regconfig
    WHEN 'it' THEN 'public.euhub_italian'::regconfig
    WHEN 'sv' THEN 'public.euhub_swedish'::regconfig
    WHEN 'nl' THEN 'public.euhub_dutch'::regconfig
    WHEN 'da' THEN 'public.euhub_danish'::regconfig
    ELSE 'public.euhub_simple'::regconfig
END;

-- Text without accents, case and surplus white space: what names and terms are compared by.
CREATE FUNCTION fold(value text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pg_catalog.btrim(pg_catalog.regexp_replace(
    pg_catalog.lower(public.unaccent('public.unaccent'::regdictionary, value)), '\s+', ' ', 'g'));

-- A name for a search index: title before body.
CREATE FUNCTION search_vector(language text, title text, body text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    pg_catalog.setweight(pg_catalog.to_tsvector(public.search_config(language), title), 'A')
    || pg_catalog.setweight(pg_catalog.to_tsvector(public.search_config(language), body), 'B');

-- A user's query in web-search syntax, read in the configuration of each language: an article matches in its own configuration only, so
-- that exclusions exclude. Where nothing but stop words or exclusions is left, there is no row: it would match everything.
CREATE FUNCTION search_queries(languages text[], wanted text) RETURNS TABLE (config regconfig, query tsquery)
LANGUAGE sql IMMUTABLE PARALLEL SAFE BEGIN ATOMIC
    SELECT c.config, q.query
    FROM (SELECT DISTINCT search_config(l) AS config FROM unnest(languages) AS l) c
    CROSS JOIN LATERAL (SELECT websearch_to_tsquery(c.config, wanted) AS query) q
    WHERE querytree(q.query) NOT IN ('', 'T');
END;

-- Sources --------------------------------------------------------------------------------------------------------------------

CREATE TABLE sources (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 63),
    display_name text NOT NULL,
    homepage_url text NOT NULL DEFAULT '',
    country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    paused boolean NOT NULL DEFAULT false,
    article_count int NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    -- A retired source keeps its row, because its articles stay.
    retire_time timestamptz
);

CREATE TABLE feeds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id bigint NOT NULL REFERENCES sources ON DELETE CASCADE,
    position int NOT NULL,
    url text NOT NULL UNIQUE,
    language text NOT NULL DEFAULT '',
    section text NOT NULL DEFAULT '',
    etag text,
    last_modified text,
    -- When a body was last read in full: an unchanged ETag is trusted for a day at most.
    last_full_fetch_time timestamptz,
    last_success_time timestamptz,
    next_fetch_time timestamptz NOT NULL,
    fetch_interval_seconds int NOT NULL DEFAULT 3600,
    consecutive_failures int NOT NULL DEFAULT 0
);
CREATE INDEX feeds_source ON feeds (source_id);
CREATE INDEX feeds_due ON feeds (next_fetch_time);

-- A source's feeds in order, with their state.
CREATE FUNCTION source_feeds(source bigint) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE RETURN (
    SELECT COALESCE(jsonb_agg(jsonb_build_object(
        'id', f.id, 'url', f.url, 'language', f.language, 'section', f.section, 'next_fetch_time', f.next_fetch_time,
        'last_success_time', f.last_success_time, 'consecutive_failures', f.consecutive_failures
    ) ORDER BY f.position), '[]')
    FROM public.feeds f WHERE f.source_id = source
);

CREATE TABLE runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id bigint NOT NULL REFERENCES sources ON DELETE CASCADE,
    feed_url text NOT NULL,
    outcome smallint NOT NULL DEFAULT 0 CHECK (outcome BETWEEN 0 AND 3),
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    fetched int NOT NULL DEFAULT 0,
    new int NOT NULL DEFAULT 0,
    duplicate int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    error_class text NOT NULL DEFAULT '',
    http_status int NOT NULL DEFAULT 0
);
CREATE INDEX runs_source ON runs (source_id, id DESC);

-- Articles -------------------------------------------------------------------------------------------------------------------

CREATE TABLE articles (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id bigint NOT NULL REFERENCES sources,
    -- The source's country, copied so that a filter holds inside one index scan.
    country text NOT NULL,
    guid text NOT NULL,
    url text NOT NULL,
    canonical_url text NOT NULL UNIQUE,
    content_hash bytea NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    authors text[] NOT NULL DEFAULT '{}',
    categories text[] NOT NULL DEFAULT '{}',
    language text NOT NULL,
    language_confidence double precision NOT NULL,
    publish_time timestamptz NOT NULL,
    create_time timestamptz NOT NULL,
    -- MinHash bands: two texts that share one are compared in full.
    near_duplicate_bands int[] NOT NULL,
    syndicated_of bigint REFERENCES articles ON DELETE SET NULL,
    search tsvector NOT NULL GENERATED ALWAYS AS (search_vector(language, title, body)) STORED,
    -- Analysis: all set together, in one transaction with the links and aggregates.
    analyze_time timestamptz,
    -- Its place in the order of analysis. Numbers are given under the lock of analysis, so that they become visible in order: what a
    -- watcher's resume token goes by.
    analyze_position bigint,
    sentiment_score double precision,
    sentiment_label smallint CHECK (sentiment_label BETWEEN 1 AND 5),
    sentiment_abstain_reason text NOT NULL DEFAULT '',
    sentiment_analyzer text NOT NULL DEFAULT '',
    embedding vector(384),
    embedding_model text,
    UNIQUE (source_id, guid),
    UNIQUE (source_id, content_hash)
);
CREATE INDEX articles_publish_time ON articles (publish_time DESC, id DESC);
CREATE INDEX articles_source ON articles (source_id, publish_time DESC, id DESC);
CREATE INDEX articles_create_time ON articles (create_time DESC, id DESC);
CREATE INDEX articles_search ON articles USING gin (search);
CREATE INDEX articles_bands ON articles USING gin (near_duplicate_bands);
CREATE INDEX articles_syndicated_of ON articles (syndicated_of) WHERE syndicated_of IS NOT NULL;
CREATE UNIQUE INDEX articles_analyze_position ON articles (analyze_position);
CREATE SEQUENCE articles_analyze_positions OWNED BY articles.analyze_position;
CREATE INDEX articles_unanalysed ON articles (id) WHERE analyze_time IS NULL;
CREATE INDEX articles_title_trgm ON articles USING gin (fold(title) gin_trgm_ops);
CREATE INDEX articles_embedding ON articles USING hnsw (embedding vector_cosine_ops);

-- Whether an article passes a client's filters; a NULL filter lets everything pass. The planner inlines it, so that it is a condition of
-- the scan itself. Classes: 1 negative, 2 neutral, 3 positive, 4 abstained.
CREATE FUNCTION article_matches(
    article articles, sources bigint[], countries text[], languages text[], published_after timestamptz,
    published_before timestamptz, min_score double precision, max_score double precision, class smallint
) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE RETURN
    (sources IS NULL OR (article).source_id = ANY (sources))
    AND (countries IS NULL OR (article).country = ANY (countries))
    AND (languages IS NULL OR (article).language = ANY (languages))
    AND (published_after IS NULL OR (article).publish_time >= published_after)
    AND (published_before IS NULL OR (article).publish_time < published_before)
    AND (min_score IS NULL OR (article).sentiment_score >= min_score)
    AND (max_score IS NULL OR (article).sentiment_score <= max_score)
    AND (class IS NULL OR class = CASE
        WHEN (article).sentiment_label <= 2 THEN 1
        WHEN (article).sentiment_label = 3 THEN 2
        WHEN (article).sentiment_label >= 4 THEN 3
        WHEN (article).analyze_time IS NOT NULL THEN 4
    END);

-- Counts of these articles by property, most first.
CREATE FUNCTION article_facets(ids bigint[]) RETURNS TABLE (property text, value text, n bigint)
LANGUAGE sql STABLE PARALLEL SAFE BEGIN ATOMIC
    WITH found AS (
        SELECT 'sources/' || s.slug AS source, a.country, a.language, CASE
                WHEN a.sentiment_label <= 2 THEN 'negative'
                WHEN a.sentiment_label = 3 THEN 'neutral'
                WHEN a.sentiment_label >= 4 THEN 'positive'
                WHEN a.analyze_time IS NOT NULL THEN 'abstained'
            END AS class
        FROM public.articles a JOIN public.sources s ON s.id = a.source_id WHERE a.id = ANY (ids)
    )
    SELECT * FROM (
        SELECT 'source' AS property, source AS value, count(*) AS n FROM found GROUP BY source
        UNION ALL SELECT 'country', country, count(*) FROM found GROUP BY country
        UNION ALL SELECT 'language', language, count(*) FROM found GROUP BY language
        UNION ALL SELECT 'class', class, count(*) FROM found WHERE class IS NOT NULL GROUP BY class
    ) counted ORDER BY property, n DESC, value;
END;

CREATE TABLE article_sentiments (
    article_id bigint NOT NULL REFERENCES articles ON DELETE CASCADE,
    analyzer text NOT NULL,
    analyzer_version text NOT NULL,
    language text NOT NULL,
    abstain_reason text NOT NULL DEFAULT '',
    score double precision CHECK (score BETWEEN -1 AND 1),
    label smallint CHECK (label BETWEEN 1 AND 5),
    confidence double precision,
    subjectivity double precision,
    positive double precision,
    neutral double precision,
    negative double precision,
    phrases jsonb NOT NULL DEFAULT '[]',
    create_time timestamptz NOT NULL,
    PRIMARY KEY (article_id, analyzer, analyzer_version),
    CHECK ((score IS NULL) = (abstain_reason <> ''))
);

-- Keywords -------------------------------------------------------------------------------------------------------------------

CREATE TABLE keywords (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 63),
    display_name text NOT NULL,
    description text NOT NULL DEFAULT '',
    category text NOT NULL DEFAULT '',
    boolean_query text NOT NULL DEFAULT '',
    article_count int NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);
CREATE INDEX keywords_category ON keywords (category);

CREATE TABLE keyword_terms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    keyword_id bigint NOT NULL REFERENCES keywords ON DELETE CASCADE,
    position int NOT NULL,
    language text NOT NULL,
    term text NOT NULL,
    folded text NOT NULL GENERATED ALWAYS AS (fold(term)) STORED,
    query tsquery NOT NULL GENERATED ALWAYS AS (phraseto_tsquery(search_config(language), term)) STORED,
    UNIQUE (keyword_id, language, term)
);
CREATE INDEX keyword_terms_folded ON keyword_terms (folded);

-- Whether a keyword answers to a query by one of its terms, its name or its slug; accents, case and white space aside.
CREATE FUNCTION keyword_matches(keyword keywords, wanted text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE RETURN
    pg_catalog.strpos(public.fold((keyword).display_name), public.fold(wanted)) > 0
    OR pg_catalog.strpos((keyword).slug, public.fold(wanted)) > 0
    OR EXISTS (SELECT 1 FROM public.keyword_terms t
               WHERE t.keyword_id = (keyword).id AND pg_catalog.strpos(t.folded, public.fold(wanted)) > 0);

CREATE TABLE article_keywords (
    keyword_id bigint NOT NULL REFERENCES keywords ON DELETE CASCADE,
    article_id bigint NOT NULL REFERENCES articles ON DELETE CASCADE,
    -- Copied from the article, so that a keyword's articles page by time within one index.
    publish_time timestamptz NOT NULL,
    -- Empty when the boolean query matched.
    matched_language text NOT NULL,
    matched_term text NOT NULL,
    in_title boolean NOT NULL,
    PRIMARY KEY (keyword_id, article_id)
);
CREATE INDEX article_keywords_article ON article_keywords (article_id);
CREATE INDEX article_keywords_time ON article_keywords (keyword_id, publish_time DESC, article_id DESC);

-- What every number shown comes from. Sums are numeric, so that adding up in any order gives the same.
CREATE TABLE keyword_daily (
    keyword_id bigint NOT NULL REFERENCES keywords ON DELETE CASCADE,
    day date NOT NULL,
    source_id bigint NOT NULL REFERENCES sources,
    n int NOT NULL,
    sum numeric NOT NULL,
    sum_of_squares numeric NOT NULL,
    positive int NOT NULL,
    neutral int NOT NULL,
    negative int NOT NULL,
    abstained int NOT NULL,
    PRIMARY KEY (keyword_id, day, source_id)
);

-- Administration -------------------------------------------------------------------------------------------------------------

CREATE TABLE api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    -- SHA-256 of the key. The key is 256 random bits, so that a plain hash cannot be guessed back.
    hash bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz,
    revoke_time timestamptz
);

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL,
    client text NOT NULL,
    outcome text NOT NULL,
    request_id text NOT NULL
);

-- Creating calls that were answered: the same request id of the same caller creates once.
CREATE TABLE created_requests (
    actor text NOT NULL,
    request_id text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL,
    time timestamptz NOT NULL,
    PRIMARY KEY (actor, action, request_id)
);
