//! Articles as a file.

use sqlx::PgPool;

use crate::articles::filter::Filter;
use crate::articles::store::{self, Article, FULL, Order, Place};
use crate::error::Result;
use crate::export::Export;
use crate::proto;

/// Articles read and sent at once.
const BATCH: i64 = 200;

/// Every article that passes a filter, newest first.
#[derive(Debug)]
pub struct Articles {
    db: PgPool,
    filter: Filter,
    after: Option<Place>,
}

impl Articles {
    /// From the newest on.
    pub fn new(db: PgPool, filter: Filter) -> Self {
        Self { db, filter, after: None }
    }
}

impl Export for Articles {
    type Row = Article;
    type Message = proto::Article;
    const MESSAGE: &'static str = "euhub.v1.Article";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "source",
        "country",
        "language",
        "title",
        "body",
        "url",
        "authors",
        "categories",
        "publish_time",
        "create_time",
        "syndicated_of",
        "sentiment_score",
        "abstain_reason",
        "keywords",
    ];

    async fn next(&mut self) -> Result<Option<Vec<Article>>> {
        let after = self.after.take();
        let mut places = store::list(&self.db, &self.filter, Order::PublishTimeDesc, after, BATCH).await?;
        let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
        self.after = places.pop();
        if self.after.is_none() {
            return Ok(None);
        }
        Ok(Some(store::by_ids(&self.db, &ids, FULL).await?))
    }

    fn record(article: Article) -> Vec<String> {
        vec![
            format!("articles/{}", article.id),
            format!("sources/{}", article.source),
            article.country,
            article.language,
            article.title,
            article.body,
            article.url,
            article.authors.join("; "),
            article.categories.join("; "),
            article.publish_time.to_rfc3339(),
            article.create_time.to_rfc3339(),
            article.syndicated_of.map(|id| format!("articles/{id}")).unwrap_or_default(),
            article.sentiment_score.map(|score| score.to_string()).unwrap_or_default(),
            article.sentiment_abstain_reason,
            article.keywords.join("; "),
        ]
    }
}
