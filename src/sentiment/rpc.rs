//! SentimentService.

use std::collections::HashMap;

use chrono::{Days, NaiveDate};
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::articles::convert::{count, timestamp};
use crate::articles::store as articles;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::ingest::language;
use crate::proto::sentiment_service_server::SentimentService;
use crate::proto::{
    AnalyzeTextRequest, AnalyzeTextResponse, CompareSentimentRequest, CompareSentimentResponse,
    CountrySentiment, GetArticleSentimentRequest, GetArticleSentimentResponse, GetKeywordSentimentRequest,
    GetSentimentTimelineRequest, KeywordSentiment, SentimentAnalysis, SentimentPhrase, SentimentStats,
    SentimentTimeline, SourceSentiment, TimelinePoint,
};
use crate::resource;
use crate::sentiment::analyze::{self, Field, Outcome, Phrase};
use crate::sentiment::stats::{self, Sums};
use crate::sentiment::store::{self, Span, label_number};
use crate::validation::check;

/// Days that a timeline shows when the client does not say.
const DEFAULT_DAYS: i32 = 30;

/// The service over the database.
#[derive(Debug)]
pub struct SentimentRpc {
    /// The archive.
    pub db: PgPool,
    /// What "today" is.
    pub clock: Clock,
}

#[tonic::async_trait]
impl SentimentService for SentimentRpc {
    async fn get_keyword_sentiment(
        &self,
        request: Request<GetKeywordSentimentRequest>,
    ) -> Result<Response<KeywordSentiment>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let today = self.today();
        let (slug, keyword_id) = self.keyword(&request.keyword).await?;
        let first = (request.days > 0).then(|| first_day(today, request.days));
        let rows = store::by_source(&self.db, &Span { keyword_id, first, last: today }).await?;

        let mut overall = Sums::default();
        let mut countries: Vec<(String, Sums)> = Vec::new();
        for row in &rows {
            overall += row.sums;
            match countries.iter_mut().find(|(country, _)| *country == row.country) {
                Some((_, sums)) => *sums += row.sums,
                None => countries.push((row.country.clone(), row.sums)),
            }
        }
        countries.sort_by(|a, b| b.1.articles.cmp(&a.1.articles).then_with(|| a.0.cmp(&b.0)));
        let first_date = rows.iter().map(|row| row.first).min();
        let last_date = rows.iter().map(|row| row.last).max();
        let text = |date: Option<NaiveDate>| date.map(|date| date.to_string()).unwrap_or_default();
        Ok(Response::new(KeywordSentiment {
            keyword: format!("keywords/{slug}"),
            overall: Some(stats_of(&overall)),
            sources: rows
                .into_iter()
                .map(|row| SourceSentiment {
                    source: format!("sources/{}", row.source),
                    display_name: row.display_name,
                    country: row.country,
                    stats: Some(stats_of(&row.sums)),
                })
                .collect(),
            countries: countries
                .into_iter()
                .map(|(country, sums)| CountrySentiment { country, stats: Some(stats_of(&sums)) })
                .collect(),
            first_date: text(first_date),
            last_date: text(last_date),
        }))
    }

    async fn get_sentiment_timeline(
        &self,
        request: Request<GetSentimentTimelineRequest>,
    ) -> Result<Response<SentimentTimeline>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let today = self.today();
        let source_id = match request.source.as_str() {
            "" => None,
            name => {
                let slug = resource::slug_or_name("sources", name)?.to_owned();
                let found = articles::source_ids(&self.db, std::slice::from_ref(&slug)).await?;
                let (_, id) =
                    found.into_iter().next().ok_or_else(|| Error::NotFound(format!("sources/{slug}")))?;
                Some(id)
            }
        };
        let country = (!request.country.is_empty()).then(|| request.country.to_ascii_uppercase());
        let days = request.days.unwrap_or(DEFAULT_DAYS);
        Ok(Response::new(self.timeline(&request.keyword, today, days, source_id, country.as_deref()).await?))
    }

    async fn compare_sentiment(
        &self,
        request: Request<CompareSentimentRequest>,
    ) -> Result<Response<CompareSentimentResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let days = request.days.unwrap_or(DEFAULT_DAYS);
        let today = self.today();
        let mut timelines: Vec<SentimentTimeline> = Vec::with_capacity(request.keywords.len());
        for name in &request.keywords {
            let timeline = self.timeline(name, today, days, None, None).await?;
            if timelines.iter().any(|other| other.keyword == timeline.keyword) {
                return Err(Error::invalid("keywords", "must be different keywords.").into());
            }
            timelines.push(timeline);
        }
        Ok(Response::new(CompareSentimentResponse { timelines }))
    }

    async fn get_article_sentiment(
        &self,
        request: Request<GetArticleSentimentRequest>,
    ) -> Result<Response<GetArticleSentimentResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = resource::number("articles", &request.article)?;
        let analyses = store::analyses(&self.db, id).await?;
        if analyses.is_empty() && !store::article_exists(&self.db, id).await? {
            return Err(Error::NotFound(request.article).into());
        }
        let analyses = analyses.into_iter().map(Into::into).collect();
        Ok(Response::new(GetArticleSentimentResponse { article: request.article, analyses }))
    }

    async fn analyze_text(
        &self,
        request: Request<AnalyzeTextRequest>,
    ) -> Result<Response<AnalyzeTextResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let (language, confidence) = match request.language.as_str() {
            "" => {
                let detected = language::detect(&request.text, None);
                (detected.language, detected.confidence)
            }
            given => (given.to_ascii_lowercase(), 1.0),
        };
        let outcome = analyze::analyze(&request.text, &language, confidence);
        Ok(Response::new(AnalyzeTextResponse {
            analysis: Some(analysis_of(outcome, language)),
            language_confidence: confidence,
        }))
    }
}

impl SentimentRpc {
    fn today(&self) -> NaiveDate {
        self.clock.now().date_naive()
    }

    async fn keyword(&self, name: &str) -> Result<(String, i64)> {
        let slug = resource::slug_or_name("keywords", name)?;
        let id = articles::keyword_id(&self.db, slug).await?;
        Ok((slug.to_owned(), id.ok_or_else(|| Error::NotFound(format!("keywords/{slug}")))?))
    }

    /// The `days` days up to `last`, each with a point.
    async fn timeline(
        &self,
        keyword: &str,
        last: NaiveDate,
        days: i32,
        source_id: Option<i64>,
        country: Option<&str>,
    ) -> Result<SentimentTimeline> {
        let (slug, keyword_id) = self.keyword(keyword).await?;
        let first = first_day(last, days);
        let span = Span { keyword_id, first: Some(first), last };
        let covered: HashMap<NaiveDate, Sums> =
            store::by_day(&self.db, &span, source_id, country).await?.into_iter().collect();

        let mut overall = Sums::default();
        let mut scored: Vec<(f64, f64, f64)> = Vec::new();
        let mut points = Vec::with_capacity(usize::try_from(days).unwrap_or_default());
        for (day, date) in first.iter_days().take_while(|date| *date <= last).enumerate() {
            let sums = covered.get(&date).copied();
            if let Some(sums) = sums {
                overall += sums;
                if let Some(average) = sums.average() {
                    let day = u32::try_from(day).unwrap_or(u32::MAX);
                    let weight = u32::try_from(sums.scored()).unwrap_or(u32::MAX);
                    scored.push((f64::from(day), average, f64::from(weight)));
                }
            }
            points.push(TimelinePoint {
                date: date.to_string(),
                gap: sums.is_none(),
                stats: Some(stats_of(&sums.unwrap_or_default())),
            });
        }
        Ok(SentimentTimeline {
            keyword: format!("keywords/{slug}"),
            points,
            overall: Some(stats_of(&overall)),
            trend: stats::slope(scored.iter().copied()),
        })
    }
}

fn first_day(last: NaiveDate, days: i32) -> NaiveDate {
    let before = u64::try_from(days.max(1) - 1).unwrap_or_default();
    last.checked_sub_days(Days::new(before)).unwrap_or(last)
}

fn stats_of(sums: &Sums) -> SentimentStats {
    let interval = sums.interval();
    SentimentStats {
        article_count: count(sums.articles),
        scored_count: count(sums.scored()),
        abstained_count: count(sums.abstained),
        positive_count: count(sums.positive),
        neutral_count: count(sums.neutral),
        negative_count: count(sums.negative),
        average: sums.average(),
        average_low: interval.map(|(low, _)| low),
        average_high: interval.map(|(_, high)| high),
    }
}

/// An analysis that is not stored, as a message.
fn analysis_of(outcome: Outcome, language: String) -> SentimentAnalysis {
    let base = SentimentAnalysis {
        analyzer: analyze::ANALYZER.into(),
        analyzer_version: analyze::VERSION.into(),
        language,
        ..SentimentAnalysis::default()
    };
    match outcome {
        Outcome::Abstained { reason } => {
            SentimentAnalysis { abstained: true, abstain_reason: reason.to_string(), ..base }
        }
        Outcome::Scored(scored) => SentimentAnalysis {
            score: Some(scored.score),
            label: i32::from(label_number(scored.label)),
            confidence: Some(scored.confidence),
            subjectivity: Some(scored.subjectivity),
            positive: Some(scored.positive),
            neutral: Some(scored.neutral),
            negative: Some(scored.negative),
            phrases: scored.phrases.into_iter().map(Into::into).collect(),
            ..base
        },
    }
}

impl From<store::Analysis> for SentimentAnalysis {
    fn from(analysis: store::Analysis) -> Self {
        Self {
            analyzer: analysis.analyzer,
            analyzer_version: analysis.analyzer_version,
            language: analysis.language,
            abstained: analysis.score.is_none(),
            abstain_reason: analysis.abstain_reason,
            score: analysis.score,
            label: analysis.label.map_or(0, i32::from),
            confidence: analysis.confidence,
            subjectivity: analysis.subjectivity,
            text_class: analysis.class.unwrap_or_default(),
            positive: analysis.positive,
            neutral: analysis.neutral,
            negative: analysis.negative,
            phrases: analysis.phrases.0.into_iter().map(Into::into).collect(),
            create_time: Some(timestamp(analysis.create_time)),
        }
    }
}

impl From<Phrase> for SentimentPhrase {
    fn from(phrase: Phrase) -> Self {
        Self {
            text: phrase.text,
            field: match phrase.field {
                Field::Title => "title".into(),
                Field::Body => "body".into(),
            },
            start: count(phrase.start.into()),
            end: count(phrase.end.into()),
            valence: phrase.valence,
        }
    }
}
