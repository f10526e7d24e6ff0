-- What kind of text an analyzer took an article for; unknown where the analyzer does not tell.
ALTER TABLE article_sentiments ADD COLUMN class text CHECK (class IN ('fact', 'opinion', 'mixed'));
