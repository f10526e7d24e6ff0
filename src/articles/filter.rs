//! The filters that lists, exports, watches and searches share.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use sqlx::PgPool;

use crate::articles::store;
use crate::error::{Error, Result};
use crate::resource;

/// Filters as a client gave them; what a request does not have stays at its default.
#[derive(Debug, Default)]
pub struct RawFilter<'a> {
    /// `keywords/{slug}` or the slug alone; empty for any.
    pub keyword: &'a str,
    /// `sources/{slug}` or the slugs alone.
    pub source: &'a [String],
    /// ISO 3166-1 alpha-2.
    pub country: &'a [String],
    /// ISO 639-1.
    pub language: &'a [String],
    /// At this time or later.
    pub published_after: Option<Timestamp>,
    /// Before this time.
    pub published_before: Option<Timestamp>,
    /// At least this score.
    pub min_sentiment: Option<f64>,
    /// At most this score.
    pub max_sentiment: Option<f64>,
    /// A `SentimentClass`; 0 for any.
    pub sentiment_class: i32,
}

/// The filters that the requests of lists, exports and searches have in common: messages of their own with the same fields.
macro_rules! raw_filter {
    ($request:ident) => {
        $crate::articles::filter::RawFilter {
            keyword: &$request.keyword,
            source: &$request.source,
            country: &$request.country,
            language: &$request.language,
            published_after: $request.published_after,
            published_before: $request.published_before,
            min_sentiment: $request.min_sentiment,
            max_sentiment: $request.max_sentiment,
            sentiment_class: 0,
        }
    };
}
pub(crate) use raw_filter;

/// Filters as SQL takes them: `None` lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Linked to this keyword.
    pub keyword: Option<i64>,
    /// Of these sources.
    pub sources: Option<Vec<i64>>,
    /// Of sources in these countries, upper case.
    pub countries: Option<Vec<String>>,
    /// In these languages, lower case.
    pub languages: Option<Vec<String>>,
    /// At this time or later.
    pub published_after: Option<DateTime<Utc>>,
    /// Before this time.
    pub published_before: Option<DateTime<Utc>>,
    /// At least this score.
    pub min_score: Option<f64>,
    /// At most this score.
    pub max_score: Option<f64>,
    /// 1 negative, 2 neutral, 3 positive, 4 abstained.
    pub class: Option<i16>,
}

impl RawFilter<'_> {
    /// Looks names up; an unknown keyword or source is not found, by its name.
    pub async fn resolve(self, db: &PgPool) -> Result<Filter> {
        if let (Some(min), Some(max)) = (self.min_sentiment, self.max_sentiment)
            && min > max
        {
            return Err(Error::invalid("min_sentiment", "must not be greater than max_sentiment."));
        }
        let keyword = match self.keyword {
            "" => None,
            name => {
                let slug = resource::slug_or_name("keywords", name)?;
                let id = store::keyword_id(db, slug).await?;
                Some(id.ok_or_else(|| Error::NotFound(format!("keywords/{slug}")))?)
            }
        };
        let sources = if self.source.is_empty() { None } else { Some(source_ids(db, self.source).await?) };
        Ok(Filter {
            keyword,
            sources,
            countries: non_empty(self.country, str::to_ascii_uppercase),
            languages: non_empty(self.language, str::to_ascii_lowercase),
            published_after: time("published_after", self.published_after)?,
            published_before: time("published_before", self.published_before)?,
            min_score: self.min_sentiment,
            max_score: self.max_sentiment,
            class: i16::try_from(self.sentiment_class).ok().filter(|class| *class != 0),
        })
    }
}

async fn source_ids(db: &PgPool, names: &[String]) -> Result<Vec<i64>> {
    let slugs = names
        .iter()
        .map(|name| resource::slug_or_name("sources", name).map(str::to_owned))
        .collect::<Result<Vec<_>>>()?;
    let found = store::source_ids(db, &slugs).await?;
    slugs
        .iter()
        .map(|slug| {
            let id = found.iter().find(|(known, _)| known == slug).map(|(_, id)| *id);
            id.ok_or_else(|| Error::NotFound(format!("sources/{slug}")))
        })
        .collect()
}

fn non_empty(values: &[String], fold: impl Fn(&str) -> String) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.iter().map(|value| fold(value)).collect())
}

/// The time of a field of a request.
pub fn time(field: &'static str, timestamp: Option<Timestamp>) -> Result<Option<DateTime<Utc>>> {
    timestamp
        .map(|at| {
            u32::try_from(at.nanos)
                .ok()
                .and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos))
                // Years 1 to 9999, as Timestamp allows.
                .filter(|time| (-62_135_596_800..=253_402_300_799).contains(&time.timestamp()))
                .ok_or_else(|| Error::invalid(field, "must be a time between the years 1 and 9999."))
        })
        .transpose()
}
