-- Cached answers end with what they were made from: every writing transaction tells which kinds of answers it changes.

-- The arguments of a trigger name the kinds. A transaction's equal notifications are one, and come after it is committed.
CREATE FUNCTION cached_answers_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('euhub_cache', kind) FROM unnest(TG_ARGV) AS kind;
    RETURN NULL;
END
$$;

CREATE TRIGGER cached_answers_end AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON keywords
    FOR EACH STATEMENT EXECUTE FUNCTION cached_answers_end('keywords', 'articles', 'sentiment', 'completions');
CREATE TRIGGER cached_answers_end AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON keyword_terms
    FOR EACH STATEMENT EXECUTE FUNCTION cached_answers_end('keywords', 'completions');
CREATE TRIGGER cached_answers_end AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON article_keywords
    FOR EACH STATEMENT EXECUTE FUNCTION cached_answers_end('keywords', 'articles');
CREATE TRIGGER cached_answers_end AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON articles
    FOR EACH STATEMENT EXECUTE FUNCTION cached_answers_end('articles', 'completions');
CREATE TRIGGER cached_answers_end AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sources
    FOR EACH STATEMENT EXECUTE FUNCTION cached_answers_end('articles', 'sentiment', 'completions');
CREATE TRIGGER cached_answers_end AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON keyword_daily
    FOR EACH STATEMENT EXECUTE FUNCTION cached_answers_end('sentiment');
CREATE TRIGGER cached_answers_end AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON keyword_reviews
    FOR EACH STATEMENT EXECUTE FUNCTION cached_answers_end('keywords');
