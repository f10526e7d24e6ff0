//! Articles to messages.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use crate::articles::store::Article;
use crate::proto;

/// A time as messages carry it.
pub fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: time.timestamp(),
        // Below a second by definition; leap seconds fold into it.
        nanos: i32::try_from(time.timestamp_subsec_nanos().min(999_999_999)).unwrap_or(0),
    }
}

/// A count as messages carry it: JSON numbers, so that 32 bits; more than two billion stay at the most.
pub fn count(n: i64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl From<Article> for proto::Article {
    fn from(article: Article) -> Self {
        let sentiment = article.analyzed.then(|| proto::ArticleSentiment {
            abstained: article.sentiment_score.is_none(),
            abstain_reason: article.sentiment_abstain_reason,
            score: article.sentiment_score,
            label: article.sentiment_label.map_or(0, i32::from),
            analyzer: article.sentiment_analyzer,
        });
        Self {
            name: format!("articles/{}", article.id),
            source: format!("sources/{}", article.source),
            source_display_name: article.source_display_name,
            country: article.country,
            language: article.language,
            language_confidence: article.language_confidence,
            title: article.title,
            body: article.body,
            url: article.url,
            authors: article.authors,
            categories: article.categories,
            publish_time: Some(timestamp(article.publish_time)),
            create_time: Some(timestamp(article.create_time)),
            syndicated_of: article.syndicated_of.map(|id| format!("articles/{id}")).unwrap_or_default(),
            sentiment,
            keywords: article.keywords.into_iter().map(|slug| format!("keywords/{slug}")).collect(),
        }
    }
}
